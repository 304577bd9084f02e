package authority

import (
	"fmt"

	"golang.org/x/net/publicsuffix"

	"cordon/blocklist"
)

// checkListable refuses early what a resolver's guard would refuse in any list.
// Replay does not ask it: the public suffix list changes, the register's past
// does not.
func checkListable(name string, scope blocklist.Scope) error {
	if err := blocklist.CheckName(name); err != nil {
		if canonical, cerr := blocklist.CanonicalName(name); cerr == nil {
			return fmt.Errorf("%w: write %s", err, canonical)
		}
		return err
	}
	if suffix, _ := publicsuffix.PublicSuffix(name); suffix == name {
		return fmt.Errorf("name %q is a public suffix", name)
	}
	return nil
}
