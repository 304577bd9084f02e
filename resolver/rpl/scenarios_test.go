package rpl_test

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cordon/blocklog"
	"cordon/resolver"
	"cordon/resolver/rpl"
	"cordon/resolver/transport"
)

const (
	repository = "../.."
	own        = repository + "/resolver/testdata/rpl"
	exceptions = repository + "/resolver/testdata/rpl-exceptions.txt"
)

// scenarioFolders are the project's own folder and those of CORDON_RPL_DIRS
// (colon-separated; relative to the repository), which a user's clone may lack.
func scenarioFolders(t *testing.T) []string {
	t.Helper()
	dirs, named := os.LookupEnv("CORDON_RPL_DIRS")
	if !named {
		dirs = "../shared/rpl/deckard:../shared/rpl/unbound"
	}
	folders := []string{own}
	for _, dir := range strings.FieldsFunc(dirs, func(r rune) bool { return r == ':' }) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(repository, dir)
		}
		if _, err := os.Stat(dir); err == nil {
			folders = append(folders, dir)
		} else if named || os.Getenv("CI") == "true" {
			t.Errorf("scenarios of others: %v; CORDON_RPL_DIRS says where they are", err)
		}
	}
	return folders
}

// TestScenarios plays every scenario against the whole resolver, from the
// client's packet to its reply. RPL=PART plays only files whose path has PART,
// and tells what happens.
func TestScenarios(t *testing.T) {
	known, err := rpl.ReadExceptions(exceptions)
	if err != nil {
		t.Fatal(err)
	}
	only := os.Getenv("RPL")
	var table rpl.Table
	played := map[string]bool{} // folders and files
	for _, folder := range scenarioFolders(t) {
		files, err := filepath.Glob(filepath.Join(folder, "*.rpl"))
		if err != nil || len(files) == 0 {
			t.Errorf("no scenario in %s (%v)", folder, err)
		}
		for _, file := range files {
			if !strings.Contains(file, only) {
				continue
			}
			name := filepath.Base(folder) + "/" + filepath.Base(file)
			played[filepath.Base(folder)], played[name] = true, true
			t.Run(name, func(t *testing.T) {
				err := play(t, file, only != "")
				table.Add(filepath.Base(folder), err)
				switch reason, listed := known[name]; {
				case err != nil && !listed:
					t.Error(err)
				case err == nil && listed:
					t.Errorf("passes, but is listed as an exception: %s", reason)
				}
			})
		}
	}
	var b strings.Builder
	table.Write(&b)
	t.Log("\n" + b.String())
	for name := range known {
		if only == "" && played[filepath.Dir(name)] && !played[name] {
			t.Errorf("exception %s: there is no such scenario", name)
		}
	}
}

// play plays one file in a bubble, where time stands still unless it is passed.
func play(t *testing.T, file string, tell bool) (err error) {
	t.Helper()
	s, err := rpl.ParseFile(file)
	if err != nil {
		return err
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		stage := rpl.Stage{
			Settle: synctest.Wait, Now: time.Now,
			Build: func(set rpl.Settings, n *rpl.Network, clock func() time.Time) (rpl.Resolver, error) {
				return build(dir, set, n, clock)
			},
		}
		if tell {
			stage.Log = t.Logf
		}
		err = stage.Play(s)
	})
	return err
}

// whole is the resolver as a server's worker sees it.
type whole struct{ *resolver.Resolver }

func (w whole) Ask(ctx context.Context, packet []byte, from netip.AddrPort) []byte {
	meta := transport.Meta{Transport: blocklog.TCP, Peer: from}
	session := w.Resolver.Session()
	reply, verdict := session.Answer(nil, packet, meta)
	if err := session.Commit(); err != nil {
		return nil
	}
	switch verdict {
	case transport.Reply:
		return reply
	case transport.Later:
		return w.Resolve(ctx, packet, meta)
	}
	return nil
}

func (w whole) Close() error {
	w.Resolver.Close()
	return nil
}

// build makes a resolver whose configuration is what the scenario wants.
func build(dir string, set rpl.Settings, n *rpl.Network, clock func() time.Time) (rpl.Resolver, error) {
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	c := resolver.Config{
		Listen:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowFrom:  everywhere,
		CacheBytes: 8 << 20, Workers: 10,
		Recursion: resolver.Recursion{Port: 53, CacheBytes: 8 << 20, Timeout: time.Minute, MayQuery: everywhere},
		Blocklog:  resolver.BlocklogConfig{Dir: filepath.Join(dir, "blocklog")},
	}
	if set.Refused != nil {
		c.AllowFrom = nil
	}
	if err := configure(dir, &c.Recursion, set); err != nil {
		return nil, err
	}
	r, err := resolver.New(c, resolver.Surroundings{
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: clock,
		Exchange: n, Random: func(int) int { return 0 },
	})
	if err != nil {
		return nil, err
	}
	return whole{r}, nil
}

// configure writes the settings of a scenario as an operator would.
func configure(dir string, c *resolver.Recursion, set rpl.Settings) error {
	ipv6 := !set.NoIPv6
	minimise := !set.NoMinimisation
	c.IPv6, c.Minimise = &ipv6, &minimise
	var hints strings.Builder
	for _, z := range set.Stubs {
		if z.Name != "." {
			c.StubZones = append(c.StubZones, zoneConfig(z))
			continue
		}
		for _, a := range z.Servers {
			hints.WriteString(". 3600 NS root.invalid.\nroot.invalid. 3600 " + family(a) + " " + a.String() + "\n")
		}
	}
	for _, z := range set.Forwards {
		c.ForwardZones = append(c.ForwardZones, zoneConfig(z))
	}
	for _, name := range set.Insecure {
		c.Negative = append(c.Negative, resolver.NegativeAnchorConfig{Name: name, Until: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	c.DNS64, c.PrivateAddresses, c.PrivateDomains = set.DNS64, set.PrivateAddresses, set.PrivateDomains
	if set.ServeExpired {
		c.ServeStale, c.StaleTTL = 24*time.Hour, set.ServeExpiredReplyTTL
		if set.ServeExpiredTTL > 0 {
			c.ServeStale = set.ServeExpiredTTL
		}
	}
	c.MinTTL, c.MaxTTL, c.MaxNegativeTTL = set.MinTTL, set.MaxTTL, set.MaxNegativeTTL
	if hints.Len() > 0 {
		c.RootHints = filepath.Join(dir, "root.hints")
		if err := os.WriteFile(c.RootHints, []byte(hints.String()), 0o600); err != nil {
			return err
		}
	}
	var anchors strings.Builder
	for _, rr := range set.Anchors {
		anchors.WriteString(rr.String() + "\n")
	}
	c.TrustAnchors = filepath.Join(dir, "anchors")
	if anchors.Len() == 0 {
		// Validation cannot be turned off; an anchor that is nowhere on the way does.
		anchors.WriteString("anchor.invalid. 3600 DS 1 13 2 " + strings.Repeat("00", 32) + "\n")
	}
	return os.WriteFile(c.TrustAnchors, []byte(anchors.String()), 0o600)
}

func zoneConfig(z rpl.Zone) resolver.ZoneConfig {
	c := resolver.ZoneConfig{Name: z.Name, First: z.First}
	for _, a := range z.Servers {
		c.Servers = append(c.Servers, a.String())
	}
	return c
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "A"
	}
	return "AAAA"
}
