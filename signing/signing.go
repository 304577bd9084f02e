// Package signing is the trust in a list: keys and their custody, the TUF roles
// that sign it (The Update Framework specification 1.0), the client that
// verifies what was published, and the age envelopes that keep it confidential.
//
// The authority founds a [Repository], whose root and targets are signed by
// several people, one after another, and whose snapshot and timestamp by keys
// that stay online. What it publishes are static files. A [Client] follows them
// from a [Source]; what it accepts its owner keeps, verifies again at each start
// with [VerifyAccepted], and opens with [Unseal]. Secrets are kept in files by
// [WriteKey] and [WriteSecret].
//
// Nothing here reads the system's clock or dials except through what the caller
// passes in.
package signing
