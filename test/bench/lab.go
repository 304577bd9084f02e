package main

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cordon/blocklist"
	"cordon/signing"
	"cordon/test/lab"
)

// laboratory is the internet that all resolve in, and the list in the form that
// each needs.
type laboratory struct {
	dir     string
	nsd     *lab.NSD
	sites   int
	entries int

	hints, anchor string // files
	ds            string // the trust anchor as a DS record
	rpz           string // the list as a response policy zone
	publish, root string // the list as cordon takes it: folder and file
	identity      string // file
	passphrase    string // file
}

const (
	stopPage = "192.0.2.80"
	signedIn = 10 // one site in so many is signed
)

func (*laboratory) site(n int) string { return fmt.Sprintf("site%d.bench", n) }

// listed is a name of the list; none of them exists.
func (*laboratory) listed(n int) string { return fmt.Sprintf("listed%06d.bench", n) }

// startLab signs the internet and starts its servers, and makes the list.
func startLab(dir string, o *options) (_ *laboratory, err error) {
	l := &laboratory{
		dir: dir, sites: o.sites, entries: o.entries,
		hints: filepath.Join(dir, "root.hints"), anchor: filepath.Join(dir, "root.ds"), rpz: filepath.Join(dir, "list.rpz"),
		publish: filepath.Join(dir, "publish"), root: filepath.Join(dir, "root.json"),
		identity: filepath.Join(dir, "identity"), passphrase: filepath.Join(dir, "passphrase"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	inet, err := lab.Build(l.zones(), time.Now())
	if err != nil {
		return nil, err
	}
	l.ds = strings.TrimSpace(inet.TrustAnchor())
	for path, content := range map[string]string{l.hints: inet.RootHints(), l.anchor: l.ds + "\n", l.rpz: l.policyZone()} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	if err := l.publishList(); err != nil {
		return nil, fmt.Errorf("publish the list: %w", err)
	}
	if l.nsd, err = inet.StartNSD(filepath.Join(dir, "nsd"), 53); err != nil {
		return nil, err
	}
	return l, pinSelfAndChildren(o.cores[1])
}

func (l *laboratory) stop() error { return l.nsd.Stop() }

// zones are a root, one top-level domain and the sites below it.
func (l *laboratory) zones() []lab.Zone {
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 57, byte(n)}) }
	const soa = "@ SOA ns1 hostmaster 2026010101 7200 3600 1209600 300\n"
	all := []lab.Zone{
		{Name: ".", Servers: []netip.Addr{address(1)}, Denial: lab.NSEC,
			Records: "$TTL 86400\n@ SOA a.servers. hostmaster.servers. 2026010101 7200 3600 1209600 300\n@ NS a.servers.\na.servers. A 127.0.57.1\nbench. NS ns1.bench.\nns1.bench. A 127.0.57.2\n"},
	}
	var tld strings.Builder
	tld.WriteString("$TTL 86400\n" + soa + "@ NS ns1\nns1 A 127.0.57.2\n")
	for i := range l.sites {
		a := 3 + i%4
		fmt.Fprintf(&tld, "site%d NS ns1.site%[1]d\nns1.site%[1]d A 127.0.57.%d\n", i, a)
		denial := lab.Unsigned
		if i%signedIn == 0 {
			denial = lab.NSEC3
		}
		all = append(all, lab.Zone{Name: l.site(i) + ".", Servers: []netip.Addr{address(a)}, Denial: denial,
			Records: fmt.Sprintf("$TTL 86400\n%s@ NS ns1\nns1 A 127.0.57.%d\n@ A 192.0.2.%d\nwww A 192.0.2.%[3]d\nwww AAAA 2001:db8::%x\n*.any A 203.0.113.9\n", soa, a, 1+i%250, i)})
	}
	return append(all, lab.Zone{Name: "bench.", Servers: []netip.Addr{address(2)}, Denial: lab.NSEC3OptOut, Records: tld.String()})
}

func (l *laboratory) policyZone() string {
	var b strings.Builder
	b.WriteString("$ORIGIN rpz.bench.\n$TTL 60\n@ SOA ns1.rpz.bench. hostmaster.rpz.bench. 1 3600 1200 604800 60\n@ NS localhost.\n")
	for i := range l.entries {
		fmt.Fprintf(&b, "%s A %s\n*.%[1]s A %[2]s\n", l.listed(i), stopPage)
	}
	return b.String()
}

// publishList signs the list as an authority does, with as few people as there
// can be.
func (l *laboratory) publishList() error {
	now := time.Now().UTC().Truncate(time.Second)
	list := &blocklist.List{Header: blocklist.Header{
		Authority: "Bench", Serial: 1, Issued: now, ValidUntil: now.AddDate(0, 1, 0), AnswerTTL: 60,
		Categories: map[string]blocklist.StopPage{"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr(stopPage)}, Page: "https://stop.example/"}},
	}}
	for i := range l.entries {
		list.Entries = append(list.Entries, blocklist.Entry{
			ID: fmt.Sprintf("2026-%06d", i), Name: l.listed(i), Scope: blocklist.ScopeDomain, Category: "terrorism",
			LegalBasis: "LCEN 6-1", Decision: fmt.Sprintf("D-%06d", i), Notified: now, InForce: now, ReviewBy: blocklist.DateOf(now.AddDate(0, 3, 0)),
		})
	}
	list.Sort()
	var encoded bytes.Buffer
	if err := blocklist.Encode(&encoded, list); err != nil {
		return err
	}
	identity, recipient, err := signing.GenerateIdentity()
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.passphrase, []byte("bench\n"), 0o600); err != nil {
		return err
	}
	const quick = 4 // log2 of the work to open it: it keeps no secret
	if err := signing.WriteSecret(l.identity, signing.KindIdentity, []byte(identity), []byte("bench"), quick); err != nil {
		return err
	}
	sealed, err := signing.Seal(encoded.Bytes(), []string{recipient})
	if err != nil {
		return err
	}
	return l.sign(sealed, now)
}

func (l *laboratory) sign(sealed []byte, now time.Time) error {
	people := make([]crypto.Signer, 2)
	public := make([]crypto.PublicKey, 2)
	for i := range people {
		key, err := signing.GenerateKey()
		if err != nil {
			return err
		}
		people[i], public[i] = key, key.Public()
	}
	online, err := signing.GenerateKey()
	if err != nil {
		return err
	}
	repo, err := signing.OpenRepository(signing.RepositoryConfig{Publish: l.publish, Staged: filepath.Join(l.dir, "staged"), Clock: time.Now})
	if err != nil {
		return err
	}
	both := signing.RoleKeys{Keys: public, Threshold: 2}
	one := signing.RoleKeys{Keys: []crypto.PublicKey{online.Public()}, Threshold: 1}
	if _, err := repo.StageRoot(signing.Roles{Root: both, Targets: both, Snapshot: one, Timestamp: one}, now.AddDate(1, 0, 0)); err != nil {
		return err
	}
	if _, err := repo.StageTarget(sealed, now.AddDate(0, 1, 0)); err != nil {
		return err
	}
	for _, role := range []string{signing.RoleRoot, signing.RoleTargets} {
		for _, key := range people {
			if _, err := repo.Sign(role, key); err != nil {
				return err
			}
		}
	}
	if _, err := repo.Publish(signing.Online{
		Snapshot: online, SnapshotExpires: now.AddDate(0, 0, 2), Timestamp: online, TimestampExpires: now.AddDate(0, 0, 1),
	}); err != nil {
		return err
	}
	root, err := repo.Root()
	if err != nil {
		return err
	}
	return os.WriteFile(l.root, root, 0o600)
}

// questions writes the questions of a case in dnsperf's form. once makes names
// that were not asked before.
func (l *laboratory) questions(file string, c benchCase, once string) error {
	var b bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2)) // the same questions in each run
	switch {
	case c.missing:
		for i := range 200_000 {
			fmt.Fprintf(&b, "%s-%d.any.%s A\n", once, i, l.site(random.IntN(l.sites)))
		}
	default:
		for i := range 20_000 {
			if random.IntN(100) < c.blocked {
				fmt.Fprintf(&b, "www.%s A\n", l.listed(random.IntN(l.entries)))
				continue
			}
			fmt.Fprintf(&b, "www.%s %s\n", l.site(random.IntN(l.sites)), [...]string{"A", "AAAA"}[i%2])
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
