package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"cordon/rpz"
)

// RPZConfig is how the lists in force are given to other resolvers of the operator,
// as a response policy zone.
type RPZConfig struct {
	Listen []netip.AddrPort `yaml:"listen"` // of the primary server, TCP and UDP; none: no transfers
	Zone   string           `yaml:"zone"`   // its name; default: a random one, kept in the store
	List   string           `yaml:"list"`   // that goes into it; default: all, in order of precedence
	Keys   string           `yaml:"keys"`   // file of TSIG keys, 0600
	Peers  []RPZPeer        `yaml:"peers"`  // who may fetch it
	File   string           `yaml:"file"`   // that holds it, for resolvers of this machine, 0640
}

// RPZPeer is a resolver that fetches the zone.
type RPZPeer struct {
	Name    string         `yaml:"name"`    // in records, logs and metrics
	Address netip.Addr     `yaml:"address"` // that it asks from
	Key     string         `yaml:"key"`     // name of its key
	Notify  netip.AddrPort `yaml:"notify"`  // where it is told of a new zone
}

func (c *RPZConfig) on() bool { return len(c.Listen) > 0 || c.File != "" }

func (c *RPZConfig) check(lists []ListConfig) error {
	if !c.on() {
		if len(c.Peers) > 0 || c.Keys != "" {
			return errors.New("listen: missing; name the address at which the peers fetch the zone, or leave peers and keys out")
		}
		return nil
	}
	if len(lists) == 0 {
		return errors.New("listen, file: there is no list to give; configure one in lists")
	}
	if c.List != "" && !slices.ContainsFunc(lists, func(l ListConfig) bool { return l.Name == c.List }) {
		return fmt.Errorf("list: %q is not one of lists; leave it out for all of them", c.List)
	}
	if c.Zone != "" {
		if _, err := rpz.CheckName(c.Zone); err != nil {
			return err
		}
	}
	if len(c.Listen) > 0 && (c.Keys == "" || len(c.Peers) == 0) {
		return errors.New("keys, peers: missing; the zone is given to nobody without a key")
	}
	if len(c.Listen) == 0 && len(c.Peers) > 0 {
		return errors.New("listen: missing; name the address at which the peers fetch the zone, or leave peers out")
	}
	return nil
}

// primary is what the configuration says of the primary server.
func (c *RPZConfig) primary() (rpz.PrimaryConfig, error) {
	p := rpz.PrimaryConfig{Listen: c.Listen}
	var err error
	if p.Keys, err = rpz.ReadKeys(c.Keys); err != nil {
		return p, fmt.Errorf("keys: %w", err)
	}
	for _, peer := range c.Peers {
		p.Peers = append(p.Peers, rpz.Peer{Name: peer.Name, Address: peer.Address, Key: peer.Key, Notify: peer.Notify})
	}
	return p, p.Check()
}

// check opens what the configuration names, and changes nothing.
func (c *RPZConfig) checkFiles() error {
	if len(c.Listen) > 0 {
		if _, err := c.primary(); err != nil {
			return err
		}
	}
	if c.File != "" {
		if _, err := os.Stat(filepath.Dir(c.File)); err != nil {
			return fmt.Errorf("file: %w; make the folder, closed to all but this account and the group of the resolvers that read it", err)
		}
	}
	return nil
}
