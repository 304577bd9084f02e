// Package authority is the side that lists: the procedure that it follows (law
// as data), the register of its measures (an append-only transparency log of
// signed statements), the list that follows from the register, and the
// publication of that list under the threshold of signatures.
//
// The register's leaves and their replay are exported, so that the oversight
// official runs the same code to verify that what was published is what was
// approved.
package authority
