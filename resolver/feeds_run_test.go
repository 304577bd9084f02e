package resolver

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// provider serves a feed's zone by AXFR with TSIG.
type provider struct {
	addr   string
	serial atomic.Uint32
}

const feedSecret = "a secret for the tests of feeds."

func startProvider(t *testing.T) *provider {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{addr: l.Addr().String()}
	p.serial.Store(1)
	ready := make(chan struct{})
	server := &dns.Server{Listener: l, TsigSecret: map[string]string{"feed.key.": base64.StdEncoding.EncodeToString([]byte(feedSecret))},
		NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(p.answer)}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// answer gives the version of the moment: a rule for vN.example, and for all.example.
func (p *provider) answer(w dns.ResponseWriter, q *dns.Msg) {
	serial := p.serial.Load()
	m := new(dns.Msg)
	m.SetReply(q)
	texts := []string{fmt.Sprintf("rpz.example. 60 IN SOA a. b. %d 3600 60 86400 60", serial)}
	switch {
	case q.IsTsig() == nil || w.TsigStatus() != nil:
		texts, m.Rcode = nil, dns.RcodeRefused
	case q.Question[0].Qtype == dns.TypeIXFR:
		texts, m.Rcode = nil, dns.RcodeNotImplemented
	case q.Question[0].Qtype == dns.TypeAXFR:
		texts = append(texts, fmt.Sprintf("v%d.example.rpz.example. 60 IN CNAME .", serial), "all.example.rpz.example. 60 IN CNAME *.", "x.rpz-nsip.rpz.example. 60 IN CNAME .", texts[0])
	}
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			return
		}
		m.Answer = append(m.Answer, rr)
	}
	m.SetTsig("feed.key.", dns.HmacSHA256, 300, time.Now().Unix())
	_ = w.WriteMsg(m) // the client went away
}

func TestAFeedOfAProviderFromTheConfigurationToTheAnswer(t *testing.T) {
	provider := startProvider(t)
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	dir := t.TempDir()
	c := p.config(dir, GuardConfig{})
	key := filepath.Join(dir, "key")
	p.must(os.WriteFile(key, []byte("hmac-sha256:feed.key:"+base64.StdEncoding.EncodeToString([]byte(feedSecret))+"\n"), 0o600))
	c.Feeds = FeedsConfig{
		Zones: []FeedConfig{{Name: "malware", Zone: "rpz.example", Primary: provider.addr, Key: key}},
		Store: filepath.Join(dir, "feeds"), Log: FeedLogConfig{Dir: filepath.Join(dir, "feedlog")},
	}
	p.must(c.Feeds.check(c.Blocklog.Dir))
	o := operate(t, c)
	stop := running(t, o.Resolver)
	o.until("/status", `"ready": true`)
	status := o.until("/status", `"loaded": true`)
	for _, want := range []string{`"unsupported": 1`, "NSIP triggers are not supported", `"alarm": ""`} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not say %s: %s", want, status)
		}
	}
	if why := o.until("/why?name=v1.example", `"action": "nxdomain"`); !strings.Contains(why, `"listed": false`) || !strings.Contains(why, `"rule": "v1.example"`) {
		t.Errorf("why: %s", why)
	}
	udp := o.server.UDP()[0].String()
	reply, err := dns.Exchange(question("all.example.", dns.TypeA), udp)
	p.must(err)
	if reply.Rcode != dns.RcodeSuccess || len(reply.Ns) != 1 || !byFeed(reply) {
		t.Errorf("reply %v", reply)
	}

	// The next version comes by the provider's word, long before its refresh.
	provider.serial.Store(2)
	notify := new(dns.Msg)
	notify.SetNotify("rpz.example.")
	reply, err = dns.Exchange(notify, udp)
	p.must(err)
	if reply.Rcode != dns.RcodeSuccess || reply.Opcode != dns.OpcodeNotify {
		t.Errorf("reply to NOTIFY: %v", reply)
	}
	o.until("/why?name=v2.example", `"action": "nxdomain"`)
	if why := o.until("/why?name=v1.example", `"feeds"`); strings.Contains(why, "nxdomain") {
		t.Errorf("the old version's rule is in force: %s", why)
	}
	stop()

	// After a restart without the provider the feed is in force all the same.
	c.Feeds.Zones[0].Primary = "127.0.0.1:1"
	o = operate(t, c)
	stop = running(t, o.Resolver)
	o.until("/why?name=v2.example", `"action": "nxdomain"`)
	stop()
	f := fed{Resolver: o.Resolver, t: t}
	if got := f.feedRecords(); len(got) != 1 || got[0] != "all.example A nodata: malware all.example" {
		t.Errorf("on record: %v", got)
	}
	for _, kind := range events(t, c.Blocklog.Dir) {
		if strings.Contains(kind, "feed") {
			t.Errorf("the block log tells of feeds: %s", kind)
		}
	}
}

// TestTheExamplesFeedsLoad takes the comments off the example's feeds.
func TestTheExamplesFeedsLoad(t *testing.T) {
	raw, err := os.ReadFile("../configs/cordon-resolver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(raw), "# feeds:\n")
	if !ok {
		t.Fatal("the example has no feeds")
	}
	block, _, _ = strings.Cut(block, "\n\n")
	c, err := LoadConfig(write(t, least+"feeds:\n"+strings.ReplaceAll("\n"+block, "\n# ", "\n")[1:]+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Feeds.Zones) != 2 || c.Feeds.Zones[0].MaxAge != defaultFeedAge || c.Feeds.Log.Keep != defaultFeedKeep || c.Feeds.Log.OnFailure != onFailureSpool {
		t.Errorf("%+v", c.Feeds)
	}
	if a, err := c.Feeds.Zones[0].primary(); err != nil || a.String() != "192.0.2.70:53" {
		t.Errorf("primary %v %v", a, err)
	}
}

func TestWrongFeedsAreNamedWithARemedy(t *testing.T) {
	const good = "feeds:\n  zones:\n    - {name: own, zone: rpz.example, file: own.rpz}\n  store: feeds\n  log: {dir: feedlog}\n"
	if _, err := LoadConfig(write(t, least+good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"no store", "  store: feeds\n", "", "feeds.store: missing; name the folder"},
		{"no log", "{dir: feedlog}", "{keep: 24h}", "feeds.log.dir: missing; name a folder"},
		{"the block log's folder", "{dir: feedlog}", "{dir: blocklog}", "name another folder"},
		{"an unknown way to fail", "{dir: feedlog}", "{dir: feedlog, on_failure: pass}", "feeds.log.on_failure"},
		{"kept for no time", "{dir: feedlog}", "{dir: feedlog, keep: 1s}", "use 1h or more"},
		{"no zone", ", zone: rpz.example", "", "feeds.zones[0] (own): zone"},
		{"a bad name", "name: own", "name: Own!", "name: \"Own!\""},
		{"neither file nor primary", ", file: own.rpz", "", "give one of them"},
		{"both", "file: own.rpz", "file: own.rpz, primary: 192.0.2.1", "give one of them"},
		{"a primary without a key", "file: own.rpz", "primary: 192.0.2.1", "key: missing"},
		{"a primary by name", "file: own.rpz", "primary: ns.example, key: k", `primary: "ns.example"; give an address`},
		{"too young to be old", "file: own.rpz", "file: own.rpz, max_age: 1s", "max_age: 1s; use 1m or more"},
		{"a name twice", "    - {name", "    - {name: own, zone: a.example, file: a}\n    - {name", "used twice"},
	} {
		_, err := LoadConfig(write(t, least+strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "own.rpz")
	for text, want := range map[string]string{"@ SOA a. b. 1 1 1 1 1\nbad A 1.2.3\n": "own.rpz", "@ SOA a. b. 1 1 1 1 1\n": "no rule"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := (&FeedsConfig{Zones: []FeedConfig{{Name: "own", Zone: "rpz.example", File: path}}}).checkFiles()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "feed own: file") {
			t.Errorf("check-config of %q: %v", text, err)
		}
	}
}
