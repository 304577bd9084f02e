package iterate

// Flush forgets what is cached of a name: records, denials, failures, delegations,
// with below also for all names below it, and says how many entries that were. A
// type other than 0 leaves what is of other types. What proves that names of the
// zones above do not exist goes with it, since it may deny the name. A look-up
// under way may still bring what was there before.
func (r *Resolver) Flush(name string, below bool, t uint16) (int, error) {
	name, err := canonical(name)
	if err != nil {
		return 0, err
	}
	return r.cache.Flush(name, below, t) + r.denials.Flush(name, below), nil
}
