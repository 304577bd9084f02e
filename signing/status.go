package signing

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Status tells how far a staged root or targets is.
type Status struct {
	Role    string
	Version int64
	Expires time.Time
	// The target that a staged targets names; empty for a root.
	TargetSHA256 string
	TargetLength int64
	// Needs has one element, or two for a root that replaces another: it needs
	// the signatures of the old one's keys and of its own.
	Needs []Need
}

// Need is one threshold of signatures.
type Need struct {
	Root      int64    // version of the root that names the keys
	Threshold int      //
	Signed    []string // key ids, of valid signatures alone
	Missing   []string // key ids
}

// Complete tells whether there are signatures enough to publish.
func (s Status) Complete() bool {
	for _, n := range s.Needs {
		if len(n.Signed) < n.Threshold {
			return false
		}
	}
	return len(s.Needs) > 0
}

// String is for people: "targets 5: 1 of 2 signatures, missing: 3f09…, 77c1…".
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d: ", s.Role, s.Version)
	for i, n := range s.Needs {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d of %d signatures", len(n.Signed), n.Threshold)
		if len(s.Needs) > 1 {
			fmt.Fprintf(&b, " by keys of root %d", n.Root)
		}
		if len(n.Signed) < n.Threshold {
			b.WriteString(", missing: ")
			for j, id := range n.Missing {
				if j > 0 {
					b.WriteString(", ")
				}
				b.WriteString(id[:min(8, len(id))] + "…")
			}
		}
	}
	return b.String()
}

func (r *Repository) status(p *published, role string) (Status, error) {
	switch role {
	case RoleRoot:
		root, err := r.readStagedRoot()
		if err != nil {
			return Status{}, err
		}
		s := Status{Role: role, Version: root.Signed.Version, Expires: root.Signed.Expires}
		if p.root != nil && p.rootVersion() < s.Version {
			s.Needs = append(s.Needs, need(p.root, role, root))
		}
		s.Needs = append(s.Needs, need(root, role, root))
		return s, nil
	case RoleTargets:
		targets, err := r.readStagedTargets()
		if err != nil {
			return Status{}, err
		}
		info := targets.Signed.Targets[r.target]
		if info == nil {
			return Status{}, fmt.Errorf("%s does not name target %q", r.stagedPath(stagedTargets), r.target)
		}
		if err := r.checkStagedTarget(p, info); err != nil {
			return Status{}, err
		}
		root, err := r.governing(p)
		if err != nil {
			return Status{}, err
		}
		return Status{
			Role: role, Version: targets.Signed.Version, Expires: targets.Signed.Expires,
			TargetSHA256: hex.EncodeToString(info.Hashes["sha256"]), TargetLength: info.Length,
			Needs: []Need{need(root, role, targets)},
		}, nil
	default:
		return Status{}, notByPeople(role)
	}
}

func need(root *metadata.Metadata[metadata.RootType], role string, md any) Need {
	n := Need{Root: root.Signed.Version, Threshold: root.Signed.Roles[role].Threshold}
	n.Signed, n.Missing = signers(root, role, md)
	return n
}
