package resolver

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const rpzZone = "x7q2.invalid."

var rpzSecret = base64.StdEncoding.EncodeToString([]byte("a secret for the tests of 38 bytes...."))

// givesOnwards adds to a configuration that the lists are given to a peer at 127.0.0.1.
func givesOnwards(t *testing.T, c Config) Config {
	t.Helper()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("hmac-sha256:fleet:"+rpzSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.RPZ = RPZConfig{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Zone: rpzZone, Keys: keys,
		Peers: []RPZPeer{{Name: "bind1", Address: netip.MustParseAddr("127.0.0.1"), Key: "fleet"}},
		File:  filepath.Join(dir, "listed.rpz"),
	}
	return c
}

// fetch gives the zone as the peer sees it, by owner relative to the zone.
func (o *operated) fetch(at string) (map[string]bool, uint32, error) {
	o.t.Helper()
	tr := &dns.Transfer{TsigSecret: map[string]string{"fleet.": rpzSecret}}
	m := new(dns.Msg).SetAxfr(rpzZone)
	m.SetTsig("fleet.", dns.HmacSHA256, 300, time.Now().Unix())
	messages, err := tr.In(m, at)
	if err != nil {
		return nil, 0, err
	}
	owners, serial := map[string]bool{}, uint32(0)
	for e := range messages {
		if e.Error != nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			if soa, ok := rr.(*dns.SOA); ok {
				serial = soa.Serial
			}
			owners[strings.TrimSuffix(rr.Header().Name, "."+rpzZone)] = true
		}
	}
	return owners, serial, err
}

// untilGiven waits until the peer sees a name, or sees it no more.
func (o *operated) untilGiven(name string, there bool) uint32 {
	o.t.Helper()
	var last error
	for range 2000 {
		owners, serial, err := o.fetch(o.primary.Addresses()[0].String())
		if err == nil && owners[name] == there {
			return serial
		}
		last = err
		time.Sleep(5 * time.Millisecond)
	}
	o.t.Fatalf("the peer sees %s: never %v (%v)", name, there, last)
	return 0
}

// TestPeersAreGivenWhatIsInForce follows the policy zone through what people do with a
// list: it is what is enforced here, under serials that grow.
func TestPeersAreGivenWhatIsInForce(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	c := givesOnwards(t, p.config(t.TempDir(), GuardConfig{Starter: true}))
	o := operate(t, c)
	stop := running(t, o.Resolver)
	first := o.untilGiven("*.propagande.example", true)

	p.publish(2, "propagande.example", "autre.example", "google.fr") // the guard sets the last aside
	second := o.untilGiven("autre.example", true)
	if owners, _, err := o.fetch(o.primary.Addresses()[0].String()); err != nil || owners["google.fr"] || !o.blocks(t, "autre.example") {
		t.Errorf("what is set aside is given: %v, %v", owners, err)
	}
	if status, body := o.call("POST", "/list/hold", `{"list":"national","entries":["id-propagande.example"],"name":"A. Person","reason":"an error"}`); status != 200 {
		t.Fatal(body)
	}
	third := o.untilGiven("propagande.example", false)
	if status, body := o.call("POST", "/list/rollback", `{"list":"national","name":"A. Person","reason":"an error"}`); status != 200 {
		t.Fatal(body)
	}
	fourth := o.untilGiven("autre.example", false)
	for i, s := range []uint32{second, third, fourth} {
		if int32(s-first) <= int32(i) {
			t.Errorf("serials %d, %d, %d, %d", first, second, third, fourth)
		}
	}
	if got := o.event(t, "list.served"); got != fmt.Sprintf(`{"file":%q,"peers":[{"address":"127.0.0.1","name":"bind1"}]}`, c.RPZ.File) {
		t.Errorf("on record: %s", got)
	}
	stop()

	o = operate(t, c)
	running(t, o.Resolver)
	if serial := o.untilGiven("autre.example", false); serial != fourth {
		t.Errorf("after a restart with the same list the serial is %d, and was %d", serial, fourth)
	}
	if text, err := os.ReadFile(c.RPZ.File); err != nil || strings.Contains(string(text), "autre.example") {
		t.Errorf("the file: %v\n%s", err, text)
	}
}

// TestTheListIsNotTransferredAtThePortForClients asks the resolver itself for the zone,
// with all that its primary would take.
func TestTheListIsNotTransferredAtThePortForClients(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, givesOnwards(t, p.config(t.TempDir(), GuardConfig{})))
	running(t, o.Resolver)
	o.untilGiven("propagande.example", true)
	if owners, _, err := o.fetch(o.server.TCP()[0].String()); err == nil || len(owners) > 0 {
		t.Errorf("the resolver gave %v", owners)
	}
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeNS, dns.TypeA} {
		reply, _, err := new(dns.Client).Exchange(question(rpzZone, qtype), o.server.UDP()[0].String())
		if err != nil || reply.Rcode == dns.RcodeSuccess || len(reply.Answer) != 0 {
			t.Errorf("%s: %v, %v", dns.TypeToString[qtype], reply, err)
		}
	}
}

func TestAnExportAsPolicyZoneIsOnRecord(t *testing.T) {
	p := newPublisher(t)
	p.publish(3, "propagande.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{}))
	running(t, o.Resolver)
	o.until("/list/held", `"serial": 3`)
	if status, body := o.call("GET", "/rpz/export?zone=a%20b", ""); status != 400 || !strings.Contains(body, "a b") {
		t.Errorf("a bad zone: %d %s", status, body)
	}
	if status, body := o.call("GET", "/rpz/export?list=other", ""); status != 400 || !strings.Contains(body, "not configured") {
		t.Errorf("no such list: %d %s", status, body)
	}
	if got := o.event(t, "list.dumped"); got != "" {
		t.Errorf("before anything was given it is on record: %s", got)
	}
	status, body := o.call("GET", "/rpz/export?list=national&zone=listed.invalid", "")
	if status != 200 || !strings.HasPrefix(body, "listed.invalid.\t60\tIN\tSOA\t") || !strings.Contains(body, "\n*.propagande.example.listed.invalid.\t60\tIN\tA\t198.51.100.80\n") {
		t.Errorf("%d %s", status, body)
	}
	if got := o.event(t, "list.dumped"); !strings.Contains(got, `"what":"rpz"`) || !strings.Contains(got, `"serial":3`) {
		t.Errorf("on record: %s", got)
	}
	// Without a name for the zone it has one that says nothing, and keeps it.
	_, first := o.call("GET", "/rpz/export", "")
	_, second := o.call("GET", "/rpz/export", "")
	name, _, _ := strings.Cut(first, "\t")
	if again, _, _ := strings.Cut(second, "\t"); len(name) != len("abcdefghijklmnop.invalid.") || again != name {
		t.Errorf("the zone is called %q, then %q", name, again)
	}
}

func TestWhoIsGivenTheListIsOnRecordBeforeAnythingIsGiven(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, givesOnwards(t, p.config(t.TempDir(), GuardConfig{})))
	stop := running(t, o.Resolver)
	o.untilGiven("propagande.example", true)
	stop()
	if got := strings.Join(events(t, o.config.Blocklog.Dir), " "); !strings.HasPrefix(got, "started list.served ") {
		t.Errorf("on record: %s", got)
	}
}

func TestSettingsOfThePolicyZoneThatCannotBeAreRefused(t *testing.T) {
	lists := []ListConfig{{Name: "national"}}
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5335")}
	peers := []RPZPeer{{Name: "x", Address: netip.MustParseAddr("127.0.0.1"), Key: "k"}}
	for _, c := range []struct {
		name  string
		c     RPZConfig
		lists []ListConfig
		says  string
	}{
		{"peers without an address to listen at", RPZConfig{Peers: peers}, lists, "listen"},
		{"peers, and a file alone", RPZConfig{Peers: peers, File: "/f"}, lists, "listen"},
		{"no peer", RPZConfig{Listen: at, Keys: "/k"}, lists, "peers"},
		{"no keys", RPZConfig{Listen: at, Peers: peers}, lists, "keys"},
		{"no list", RPZConfig{File: "/f"}, nil, "lists"},
		{"a list that is not there", RPZConfig{File: "/f", List: "other"}, lists, "other"},
		{"a zone that no server takes", RPZConfig{File: "/f", Zone: "."}, lists, "zone"},
	} {
		if err := c.c.check(c.lists); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, good := range []RPZConfig{{}, {File: "/f"}, {Listen: at, Keys: "/k", Peers: peers, List: "national"}} {
		if err := good.check(lists); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}
