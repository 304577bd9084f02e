package blocklist

// Enforced gives the entries that are enforced, in the order of the list: those
// that the index covers names with. It fits a range clause. The entries are the
// list's own and must not change.
func (l *Loaded) Enforced(yield func(*Entry) bool) {
	aside := l.Aside
	for i := range l.List.Entries {
		e := &l.List.Entries[i]
		switch {
		case len(aside) > 0 && aside[0].Entry == uint32(i):
			aside = aside[1:]
		case e.InForce.After(l.AsOf):
		case !yield(e):
			return
		}
	}
}
