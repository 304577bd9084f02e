//go:build !race

package signing

// sampling is 1 where all cases of a long series are run.
const sampling = 1
