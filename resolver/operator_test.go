package resolver

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/signing"
)

// publisher signs lists and publishes them into a folder, as an authority does.
type publisher struct {
	t         testing.TB
	dir       string // publish/, root.json, identity, passphrase
	repo      *signing.Repository
	people    []crypto.Signer
	online    crypto.Signer
	recipient string
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{t: t, dir: t.TempDir()}
	identity, recipient, err := signing.GenerateIdentity()
	p.must(err)
	p.recipient = recipient
	p.must(os.WriteFile(p.path("passphrase"), []byte("open\n"), 0o600))
	p.must(signing.WriteSecret(p.path("identity"), signing.KindIdentity, []byte(identity), []byte("open"), 4))
	var keys []crypto.PublicKey
	for range 2 {
		k, err := signing.GenerateKey()
		p.must(err)
		p.people, keys = append(p.people, k), append(keys, k.Public())
	}
	p.online, err = signing.GenerateKey()
	p.must(err)
	p.repo, err = signing.OpenRepository(signing.RepositoryConfig{Publish: p.path("publish"), Staged: p.path("staged"), Clock: time.Now})
	p.must(err)
	both := signing.RoleKeys{Keys: keys, Threshold: 2}
	one := signing.RoleKeys{Keys: []crypto.PublicKey{p.online.Public()}, Threshold: 1}
	_, err = p.repo.StageRoot(signing.Roles{Root: both, Targets: both, Snapshot: one, Timestamp: one}, time.Now().AddDate(1, 0, 0))
	p.must(err)
	p.sign(signing.RoleRoot)
	_, err = p.repo.Publish(signing.Online{})
	p.must(err)
	root, err := p.repo.Root()
	p.must(err)
	p.must(os.WriteFile(p.path("root.json"), root, 0o600))
	return p
}

func (p *publisher) path(name string) string { return filepath.Join(p.dir, name) }

func (p *publisher) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *publisher) sign(role string) {
	for _, key := range p.people {
		_, err := p.repo.Sign(role, key)
		p.must(err)
	}
}

// list makes a list of domain entries; their ids are "id-" and the name.
func (p *publisher) list(serial uint64, names ...string) *blocklist.List {
	now := time.Now().UTC().Truncate(time.Second)
	l := &blocklist.List{Header: blocklist.Header{
		Authority: "Office", Serial: serial, Issued: now, ValidUntil: now.AddDate(0, 1, 0), AnswerTTL: 60,
		Categories: map[string]blocklist.StopPage{"terrorism": {IPv4: []netip.Addr{netip.MustParseAddr("198.51.100.80")}, Page: "https://stop.example/"}},
	}}
	for _, n := range names {
		l.Entries = append(l.Entries, blocklist.Entry{ID: "id-" + n, Name: n, Scope: blocklist.ScopeDomain, Category: "terrorism",
			LegalBasis: "LCEN 6-1", Decision: "D-" + n, Notified: now, InForce: now, ReviewBy: blocklist.DateOf(now.AddDate(0, 3, 0))})
	}
	l.Sort()
	return l
}

// publish signs a list and publishes it.
func (p *publisher) publish(serial uint64, names ...string) {
	p.t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	var b bytes.Buffer
	p.must(blocklist.Encode(&b, p.list(serial, names...)))
	sealed, err := signing.Seal(b.Bytes(), []string{p.recipient})
	p.must(err)
	_, err = p.repo.StageTarget(sealed, now.AddDate(0, 1, 0))
	p.must(err)
	p.sign(signing.RoleTargets)
	_, err = p.repo.Publish(signing.Online{
		Snapshot: p.online, SnapshotExpires: now.Add(48 * time.Hour),
		Timestamp: p.online, TimestampExpires: now.Add(24 * time.Hour),
	})
	p.must(err)
}

// operated is a resolver that follows a publisher, with a control socket.
type operated struct {
	*Resolver
	t      testing.TB
	client *http.Client
}

// config is that of a resolver that follows p, as a file would say.
func (p *publisher) config(dir string, guard GuardConfig) Config {
	return Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AllowFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		CacheBytes: 1 << 20, Workers: 10, Recursion: Recursion{Port: 53, CacheBytes: 1 << 20, Timeout: 5 * time.Second},
		Lists: []ListConfig{{Name: "national", Source: Sources{p.path("publish")}, Root: p.path("root.json"), Identity: p.path("identity"),
			PassphraseFile: p.path("passphrase"), Poll: 50 * time.Millisecond}},
		Store: filepath.Join(dir, "lists"), Guard: guard,
		Blocklog: BlocklogConfig{Dir: filepath.Join(dir, "blocklog")},
		Control:  ControlConfig{Socket: filepath.Join(dir, "control.sock")},
	}
}

func operate(t testing.TB, c Config) *operated {
	t.Helper()
	for _, dir := range []string{c.Blocklog.Dir, c.Store} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(c, Surroundings{Log: newResolver(t, newInternet(t)).log, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.Control.Socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &operated{r, t, &http.Client{Transport: transport}}
}

// call asks over the control socket.
func (o *operated) call(method, path, body string) (int, string) {
	o.t.Helper()
	req, err := http.NewRequest(method, "http://resolver"+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	resp, err := o.client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// until waits for an answer that holds a text: what the watcher has done shows
// there.
func (o *operated) until(path, holds string) string {
	o.t.Helper()
	var body string
	for range 2000 {
		if _, body = o.call("GET", path, ""); strings.Contains(body, holds) {
			return body
		}
		time.Sleep(5 * time.Millisecond)
	}
	o.t.Fatalf("%s never holds %s: %s", path, holds, body)
	return ""
}

func (o *operated) blocks(t *testing.T, name string) bool {
	t.Helper()
	packet, err := question(name+".", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	s := o.Session()
	raw, _ := s.Answer(nil, packet, client)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	return m.Unpack(raw) == nil && blocked(m)
}

// event gives the data of the last event of a kind in the block log.
func (o *operated) event(t *testing.T, kind string) string {
	t.Helper()
	last := ""
	for _, record := range records(t, o.config.Blocklog.Dir) {
		if record.Event != nil && record.Event.Kind == kind {
			last = string(record.Event.Data)
		}
	}
	return last
}

// TestOperatorsRuleWhatGuardsStop goes through what an operator does on the day
// on which a signed list names what half the country uses.
func TestOperatorsRuleWhatGuardsStop(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{Starter: true, Additions: blocklist.Bound{Least: 10}, Removals: blocklist.Bound{Least: 10}}))
	running(t, o.Resolver)
	o.until("/status", `"serial": 1`)

	p.publish(2, "propagande.example", "google.fr", "ovh.com", "neu.example")
	o.until("/status", `"in_all": 2`)
	if o.blocks(t, "www.google.fr") || o.blocks(t, "ovh.com") || !o.blocks(t, "neu.example") || !o.blocks(t, "propagande.example") {
		t.Error("protected names are blocked, or others are not")
	}
	why := o.until("/why?name=www.google.fr", `"state": "quarantined"`)
	for _, holds := range []string{`"listed": false`, "is a protected name (the starter set)", `"id": "id-google.fr"`} {
		if !strings.Contains(why, holds) {
			t.Errorf("why does not hold %s: %s", holds, why)
		}
	}
	if why := o.until("/why?name=propagande.example", `"listed": true`); !strings.Contains(why, `"would": "A 198.51.100.80, AAAA NODATA`) || !strings.Contains(why, `"action": "stop-page"`) {
		t.Errorf("why does not say what is answered, or the last decisions: %s", why)
	}

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, body string
		status           int
		holds            string
	}{
		{"no name", "/list/release", `{"list":"national","entries":["id-ovh.com"],"reason":"asked"}`, 400, "name"},
		{"no reason", "/list/release", `{"list":"national","entries":["id-ovh.com"],"name":"Alice"}`, 400, "reason"},
		{"another list", "/list/release", `{"list":"belgian","entries":["id-ovh.com"],"name":"Alice","reason":"asked"}`, 400, `list \"belgian\" is not configured`},
		{"no such entry", "/list/release", `{"list":"national","entries":["nobody"],"name":"Alice","reason":"asked"}`, 400, "has no entry"},
		{"a setting that is not known", "/list/release", `{"list":"national","names":["x.example"],"name":"Alice","reason":"asked"}`, 400, "unknown field"},
		{"by GET", "/list/release?list=national", "", 405, ""},
		{"a release", "/list/release", `{"list":"national","entries":["id-ovh.com"],"name":"Alice","reason":"asked"}`, 200, "1 entries released"},
		{"a hold", "/list/hold", `{"list":"national","entries":["id-neu.example"],"name":"Alice","reason":"asked"}`, 200, "1 entries held"},
	} {
		method := "POST"
		if c.status == 405 {
			method = "GET"
		}
		if status, body := o.call(method, c.path, c.body); status != c.status || !strings.Contains(body, strings.ReplaceAll(c.holds, `\"`, `"`)) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	if o.blocks(t, "www.google.fr") || !o.blocks(t, "ovh.com") || o.blocks(t, "neu.example") {
		t.Error("the orders have no effect")
	}
	by := fmt.Sprintf(`"account":%q`, me.Username)
	if got := o.event(t, "guard.released"); !strings.Contains(got, "ovh.com") || !strings.Contains(got, `"name":"Alice"`) || !strings.Contains(got, `"reason":"asked"`) || !strings.Contains(got, by) {
		t.Errorf("the release is on record as %s", got)
	}
	if got := o.event(t, "override"); !strings.Contains(got, `"action":"hold"`) || !strings.Contains(got, by) {
		t.Errorf("the hold is on record as %s", got)
	}

	// Too many names at once.
	var flood []string
	for i := range 20 {
		flood = append(flood, fmt.Sprintf("site%d.example", i))
	}
	p.publish(3, append(flood, "propagande.example", "google.fr", "ovh.com", "neu.example")...)
	o.until("/list/held", "adds 20 entries to 4, where at most 10 are added at once")
	if diff := o.until("/list/diff?list=national&from=running&to=held", `"in_all"`); !strings.Contains(diff, "site19.example") || !strings.Contains(diff, `"to": 3`) {
		t.Errorf("the difference is %s", diff)
	}
	status, body := o.call("POST", "/list/dry-run?list=national&to=held", `[{"name":"site1.example"},{"name":"www.site2.example","type":"MX"},
		{"name":"propagande.example","type":"AAAA"},{"name":"google.fr"},{"name":"other.example","type":"TXT"}]`)
	var dry DryRun
	if err := json.Unmarshal([]byte(body), &dry); status != 200 || err != nil || dry.InAll != 2 || dry.Asked != 5 || dry.Changed[0].Would.Entry != "id-site1.example" || dry.Changed[0].Type != "A" ||
		dry.Changed[0].Was != nil || dry.Changed[1].Would.Answer != "NODATA" {
		t.Errorf("the dry run says %s", body)
	}
	if o.blocks(t, "site1.example") {
		t.Error("a held list is enforced")
	}
	if status, body := o.call("POST", "/list/release", `{"list":"national","update":3,"name":"Alice","reason":"confirmed"}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if !o.blocks(t, "site1.example") || o.blocks(t, "google.fr") {
		t.Error("the held list is not enforced as the guards want")
	}

	// Back, until a newer one comes.
	o.until("/list/held", `"serial": 3`)
	if status, body := o.call("POST", "/list/rollback", `{"list":"national","name":"Alice","reason":"too many complaints"}`); status != 200 || !strings.Contains(body, "serial 2 is in force again") {
		t.Errorf("%d %s", status, body)
	}
	if o.blocks(t, "site1.example") || !o.blocks(t, "propagande.example") {
		t.Error("the rollback has no effect")
	}
	o.until("/status", `"rollback": {`)
	p.publish(4, "propagande.example", "last.example")
	o.until("/status", `"serial": 4`)
	if o.blocks(t, "ovh.com") || !o.blocks(t, "last.example") {
		t.Error("the newer list is not in force")
	}
}

func TestTheListIsReadOutOnRecordAlone(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example", "images.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{}))
	running(t, o.Resolver)
	o.until("/list/show?list=national&entry=id-images.example", `"state": "enforced"`)
	o.until("/list/show?list=national&entry=Images.example.", `"id": "id-images.example"`)
	o.until("/list/search?list=national&holds=propa", `"in_all": 1`)
	for path, holds := range map[string]string{
		"/list/search?list=national":                    "at least 3 characters",
		"/list/search?list=national&holds=x":            "at least 3 characters",
		"/list/search?list=national&state=bad":          `state "bad" is not known`,
		"/list/search?list=national&review_by=soon":     `date "soon"`,
		"/list/show?list=national&entry=..":             "neither the id of an entry",
		"/list/diff?list=national&from=running&to=held": "no update is held",
		"/list/diff?list=national&from=running&to=7":    "serial 7 is not at hand",
	} {
		if status, body := o.call("GET", path, ""); status != 400 || !strings.Contains(body, holds) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if got := o.event(t, "list.dumped"); got != "" {
		t.Errorf("recorded %s", got)
	}
	status, body := o.call("GET", "/list/export?list=national", "")
	if status != 200 || !strings.HasPrefix(body, `{"format":"cordon-list/1"`) || strings.Count(body, "\n") != 3 {
		t.Errorf("%d %s", status, body)
	}
	if got := o.event(t, "list.dumped"); !strings.Contains(got, `"what":"export"`) || !strings.Contains(got, `"entries":2`) || !strings.Contains(got, `"account":"`) {
		t.Errorf("recorded %s", got)
	}
}

func TestVerifyListSaysWhatAResolverWouldDo(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example", "google.fr")
	dir := t.TempDir()
	c := p.config(dir, GuardConfig{Starter: true})
	v, err := VerifyList(t.Context(), c, "national", p.path("publish"), time.Now)
	if err != nil || v.Summary.Serial != 1 || len(v.Aside) != 1 || v.Aside[0].Name != "google.fr" {
		t.Fatalf("%+v, %v", v, err)
	}
	o := operate(t, c)
	stop := running(t, o.Resolver)
	o.until("/status", `"serial": 1`)
	stop()
	stored, err := filepath.Glob(filepath.Join(c.Store, "national", "*.tar"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("stored %q, %v", stored, err)
	}
	if v, err := VerifyList(t.Context(), c, "", stored[0], time.Now); err != nil || v.Summary.Entries != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	raw, err := os.ReadFile(stored[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[bytes.Index(raw, []byte("age-encryption.org"))+3000] ^= 1
	bad := filepath.Join(dir, "bad.tar")
	if err := os.WriteFile(bad, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyList(t.Context(), c, "national", bad, time.Now); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("a changed file: %v", err)
	}
}
