package authority

import (
	"context"
	"errors"
	"fmt"

	"cordon/blocklist"
)

// checkListable refuses early, in the same words, what every resolver's guard
// would refuse in a list with these stop pages. Replay does not ask it: the
// public suffix list changes, the register's past does not.
func checkListable(e blocklist.Entry, pages map[string]blocklist.StopPage) error {
	if err := blocklist.CheckName(e.Name); err != nil {
		if canonical, cerr := blocklist.CanonicalName(e.Name); cerr == nil {
			return fmt.Errorf("name %q is not in the form that a list has: write %s", e.Name, canonical)
		}
		return err
	}
	return checkGuard(&blocklist.List{Header: blocklist.Header{Categories: pages}, Entries: []blocklist.Entry{e}})
}

// checkGuard runs the part of a resolver's guard that needs to know nothing of
// that resolver.
func checkGuard(list *blocklist.List) error {
	guard, err := blocklist.NewGuard(blocklist.GuardConfig{})
	if err != nil {
		return err
	}
	err = guard.Check(context.Background(), blocklist.Update{Next: list})
	var refused *blocklist.GuardError
	if !errors.As(err, &refused) {
		return err
	}
	var problems []error
	for _, f := range refused.Findings {
		name := fmt.Sprintf("name %q with scope %v", f.Name, f.Scope)
		if f.ID != "" {
			name = fmt.Sprintf("measure %s: %s", f.ID, name)
		}
		problems = append(problems, fmt.Errorf("%s %s; %s", name, f.Problem, f.Remedy))
	}
	return errors.Join(problems...)
}
