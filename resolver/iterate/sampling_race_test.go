//go:build race

package iterate

// sampling is by how much a long series is shortened: the race detector makes it
// ten times as slow, and finds nothing in the rest of it.
const sampling = 10
