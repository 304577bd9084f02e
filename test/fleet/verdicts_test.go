package fleet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/test/await"
)

// members: of each kind of entry there are so many.
const members = 25

// entries are of each kind in which entries can stand to each other.
func entries(serial int) (all []blocklist.Entry) {
	add := func(scope blocklist.Scope, category, name string, n int) {
		name = fmt.Sprintf(name, n)
		all = append(all, blocklist.Entry{ID: scope.String() + "-" + name, Name: name, Scope: scope, Category: category})
	}
	for n := range members {
		if n != 0 || serial == 1 { // the second list lifts one
			add(blocklist.ScopeDomain, "terrorism", "d%d.fleet", n)
			add(blocklist.ScopeHost, "minors", "h%d.fleet", n)
		}
		// Below a domain: a host two labels down, with another page; a domain; and the same name twice.
		add(blocklist.ScopeDomain, "terrorism", "nest%d.fleet", n)
		add(blocklist.ScopeHost, "minors", "a.b.nest%d.fleet", n)
		add(blocklist.ScopeDomain, "minors", "below.nest%d.fleet", n)
		add(blocklist.ScopeDomain, "minors", "both%d.fleet", n)
		add(blocklist.ScopeHost, "terrorism", "both%d.fleet", n)
		// Two hosts, of which one is below the other: neither covers anything else.
		add(blocklist.ScopeHost, "terrorism", "pair%d.fleet", n)
		add(blocklist.ScopeHost, "terrorism", "x.y.pair%d.fleet", n)
	}
	if serial > 1 {
		add(blocklist.ScopeDomain, "minors", "new%d.fleet", 0)
		// One page moves.
		for i := range all {
			if all[i].Name == "d1.fleet" {
				all[i].Category, all[i].ID = "minors", "moved-1"
			}
		}
	}
	return all
}

// forms are the names that are asked for, of each member.
var forms = []string{
	"d%d.fleet", "www.d%d.fleet", "a.b.c.d%d.fleet", "xd%d.fleet", // a domain, below, deep below, beside
	"h%d.fleet", "www.h%d.fleet", "xh%d.fleet",
	"nest%d.fleet", "www.nest%d.fleet", "b.nest%d.fleet", "c.b.nest%d.fleet", "a.b.nest%d.fleet", "z.a.b.nest%d.fleet", "q.z.a.b.nest%d.fleet",
	"below.nest%d.fleet", "x.below.nest%d.fleet", "beside.nest%d.fleet",
	"both%d.fleet", "www.both%d.fleet",
	"pair%d.fleet", "y.pair%d.fleet", "x.y.pair%d.fleet", "z.x.y.pair%d.fleet", "q.pair%d.fleet",
	"free%d.fleet", "www.free%d.fleet",
	"alias%d.fleet", "aliashost%d.fleet", "aliasfree%d.fleet",
}

type question struct {
	name  string
	qtype uint16
	do    bool
}

// questions draws some, the same in each run, every form among them.
func questions(count int) (all []question) {
	r := rand.New(rand.NewPCG(7, 7))
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeHTTPS}
	for i := range count {
		name := fmt.Sprintf(forms[i%len(forms)], r.IntN(members)) + "."
		if r.IntN(3) == 0 { // as clients do that hide bits in the case
			mixed := []byte(name)
			for j := range mixed {
				if r.IntN(2) == 0 {
					mixed[j] = strings.ToUpper(name)[j]
				}
			}
			name = string(mixed)
		}
		all = append(all, question{name, types[r.IntN(len(types))], r.IntN(2) == 0})
	}
	return all
}

// verdict is what an answer says: the records of the type that was asked for, or that
// there are none. Aliases on the way do not count: cordon does not show them, others do.
func verdict(at netip.AddrPort, q question) (string, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.SetEdns0(1232, q.do)
	var last error
	for range 5 {
		reply, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, at.String())
		if err != nil {
			last = err
			continue
		}
		var data []string
		for _, rr := range reply.Answer {
			if rr.Header().Rrtype == q.qtype {
				data = append(data, strings.ToLower(strings.TrimPrefix(rr.String(), rr.Header().String())))
			}
		}
		slices.Sort(data)
		return dns.RcodeToString[reply.Rcode] + " " + strings.Join(data, " "), nil
	}
	return "", last
}

// verdicts asks one server all questions, a few at a time.
func verdicts(t *testing.T, at netip.AddrPort, all []question) []string {
	t.Helper()
	got := make([]string, len(all))
	next := make(chan int)
	var askers sync.WaitGroup
	for range 8 {
		askers.Go(func() {
			for i := range next {
				v, err := verdict(at, all[i])
				if err != nil {
					v = "no answer: " + err.Error()
				}
				got[i] = v
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	askers.Wait()
	return got
}

const (
	terror = "NOERROR 198.51.100.80"
	minors = "NOERROR 198.51.100.81 198.51.100.82"
	free   = "NOERROR 192.0.2.10"
)

// TestFourMakesGiveTheSameVerdicts has the four enforce the list of a cordon, asks all
// five the same, and follows a change.
func TestFourMakesGiveTheSameVerdicts(t *testing.T) {
	needPeers(t)
	f := newFleet(t, entries(1)...)
	await.Nil(f.t, "cordon", func() error { return f.says(f.cordon, "www.nest3.fleet.", terror) })
	peers := f.startPeers()
	for _, p := range peers {
		await.Nil(f.t, p.name+" enforces the list", func() error { return f.says(p.at, "www.nest3.fleet.", terror) })
	}

	all := questions(1000)
	want := verdicts(t, f.cordon, all)
	blocked := 0
	for i, w := range want {
		if strings.Contains(w, "198.51.100.") || (w == "NOERROR " && all[i].qtype != dns.TypeA) {
			blocked++
		}
	}
	if blocked < 300 || blocked > 800 {
		t.Errorf("cordon blocks %d of %d questions: the test sees one side only", blocked, len(all))
	}
	for _, p := range peers {
		differ, passed := 0, 0
		for i, got := range verdicts(t, p.at, all) {
			if got == want[i] {
				continue
			}
			if p.passes(all[i]) {
				passed++
				continue
			}
			if differ++; differ <= 10 {
				t.Errorf("%s: %s %s (DO %v): %q, and cordon says %q", p.name, all[i].name, dns.TypeToString[all[i].qtype], all[i].do, got, want[i])
			}
		}
		t.Logf("%s: %d of %d verdicts as cordon's; %d more are known to pass", p.name, len(all)-differ-passed, len(all), passed)
	}

	// The change: an entry comes, one goes, one gets another page.
	f.publish(2, entries(2)...)
	since := time.Now()
	var waiting sync.WaitGroup
	took := make([]time.Duration, len(peers))
	for i, p := range append(peers, peer{"cordon", f.cordon}) {
		waiting.Go(func() {
			for _, c := range []struct{ name, verdict string }{
				{"www.new0.fleet.", minors}, {"www.d0.fleet.", free}, {"h0.fleet.", free}, {"www.d1.fleet.", minors}, {"d1.fleet.", minors}, {"www.d2.fleet.", terror},
			} {
				for {
					err := f.says(p.at, c.name, c.verdict)
					if err == nil {
						break
					}
					if time.Since(since) > patience {
						t.Errorf("%s after the change: %v", p.name, err)
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
			if i < len(took) {
				took[i] = time.Since(since)
			}
		})
	}
	waiting.Wait()
	for i, p := range peers {
		t.Logf("%s enforces the change %d ms after it was published", p.name, took[i].Milliseconds())
	}
}

// passes tells which questions a make lets pass, and is known to: Unbound 1.17 looks at
// where an alias leads when it first resolves it, without wildcards, and not when it has
// the answer in its cache (docs/operators.md says so).
func (p peer) passes(q question) bool {
	name := strings.ToLower(q.name)
	return p.name == "unbound" && strings.HasPrefix(name, "alias") && !strings.HasPrefix(name, "aliasfree")
}

// says checks what a server gives for an A question.
func (f *fleet) says(at netip.AddrPort, name, want string) error {
	got, err := verdict(at, question{name: name, qtype: dns.TypeA})
	if err == nil && got != want {
		err = fmt.Errorf("%s A: %q, want %q", name, got, want)
	}
	return err
}

// TestTheManualSaysWhatIsTested holds what operators are told to write to what the peers
// here were started with.
func TestTheManualSaysWhatIsTested(t *testing.T) {
	manual := readFile(t, "../../docs/operators.md")
	for line := range strings.SplitSeq(strings.TrimSpace(knotRules), "\n") {
		if line != "" && !strings.Contains(manual, "\n    "+line+"\n") {
			t.Errorf("the manual does not hold %q", line)
		}
	}
	tested := readFile(t, "peers_test.go")
	for _, setting := range []string{
		"max-policy-ttl 86400 min-update-interval 0 add-soa no;", "} qname-wait-recurse no break-dnssec yes;", "allow-query { none; };", "allow-transfer { none; };",
		"refresh = 1, seedFile = ", "packetcache-ttl=1", `module-config: "respip validator iterator"`, "auth_zone_reload",
	} {
		if !strings.Contains(manual, setting) || !strings.Contains(tested, setting) {
			t.Errorf("%q is in the manual: %v; in what is tested: %v", setting, strings.Contains(manual, setting), strings.Contains(tested, setting))
		}
	}
}

// TestTheExportIsTheZoneThatPeersFetch compares what the command writes with what a
// peer is given.
func TestTheExportIsTheZoneThatPeersFetch(t *testing.T) {
	f := newFleet(t, entries(1)...)
	await.Nil(f.t, "a transfer", func() error {
		_, err := f.fetch(f.primary, "127.0.0.1", "bind.", dns.HmacSHA256, bindSecret)
		return err
	})
	given, err := f.fetch(f.primary, "127.0.0.1", "power.", dns.HmacSHA512, powerSecret)
	if err != nil {
		t.Fatal(err)
	}
	path := f.dir + "/export.rpz"
	if out, err := exec.Command(program, "export", "rpz", "--config", f.config, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if info, err := exec.Command("stat", "-c", "%a", path).Output(); err != nil || string(info) != "600\n" {
		t.Errorf("its mode is %s, %v", info, err)
	}
	for _, text := range []string{readFile(t, path), readFile(t, f.file)} {
		var got []string
		parser := dns.NewZoneParser(strings.NewReader(text), ".", "")
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			got = append(got, rr.String())
		}
		if err := parser.Err(); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(given)-1 || !slices.Equal(got[1:], given[1:len(given)-1]) { // the serial is the export's own
			t.Errorf("%d records, and a peer is given %d", len(got), len(given))
		}
	}
}
