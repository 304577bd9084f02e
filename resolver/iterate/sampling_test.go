//go:build !race

package iterate

// sampling is 1 where a long series is run as a whole.
const sampling = 1
