//go:build race

package signing

// sampling is how many cases of a long series are passed over for one that is
// run. The race detector makes each ten times as slow, and finds nothing in them
// that it does not find in any one.
const sampling = 7
