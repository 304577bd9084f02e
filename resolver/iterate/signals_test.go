package iterate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// inBackground lets r work in the background, and gives what waits until nothing is
// under way there any more.
func inBackground(t *testing.T, r *Resolver) (idle func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { stop(); runs.Wait() })
	for !r.background.start(r.background.errands, func(context.Context) {}) {
		time.Sleep(time.Millisecond) // until Run is there
	}
	return r.background.all.Wait
}

// asked are the questions that were sent for names that start with a label.
func asked(n *internet, label string) (all []string) {
	for _, s := range n.queries() {
		if strings.HasPrefix(s.Name, label) {
			all = append(all, s.Name+" "+dns.TypeToString[s.Type])
		}
	}
	return all
}

func TestTheRootIsToldWhichOfItsKeysAreTrusted(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver(func(c *Config) { c.SignalAnchors = true })
	idle := inBackground(t, r)
	want := fmt.Sprintf("_ta-%04x. NULL", n.zones["."].key.KeyTag())
	ask(t, r, "www.example.com. A")
	ask(t, r, "none.example.com. A")
	idle()
	if got := asked(n, "_ta-"); !slices.Equal(got, []string{want}) {
		t.Errorf("asked %v, want %s", got, want)
	}

	// Not for each reason for which keys are fetched, but each time in the end;
	// that the name is known not to exist, and proven, does not count.
	if _, err := theKeys(r, "."); err != nil {
		t.Fatal(err)
	}
	idle()
	if got := asked(n, "_ta-"); len(got) > 0 {
		t.Errorf("asked %v a moment later", got)
	}
	n.pass(2 * time.Hour)
	if _, err := theKeys(r, "."); err != nil {
		t.Fatal(err)
	}
	idle()
	if got := asked(n, "_ta-"); !slices.Equal(got, []string{want}) {
		t.Errorf("asked %v two hours later, want %s", got, want)
	}
}

func TestNobodyIsToldWhereThatIsOff(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver()
	idle := inBackground(t, r)
	ask(t, r, "www.example.com. A")
	idle()
	if got := asked(n, "_ta-"); len(got) > 0 {
		t.Errorf("asked %v", got)
	}
}

func TestASignalNamesAllTagsInOrder(t *testing.T) {
	anchors := []dns.RR{&dns.DS{KeyTag: 38696}, &dns.DS{KeyTag: 20326}, &dns.DS{KeyTag: 20326, DigestType: 4}, &dns.DS{KeyTag: 10}}
	if got, want := signalName(".", anchors), "_ta-000a-4f66-9728."; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for tag := range uint16(100) {
		anchors = append(anchors, &dns.DS{KeyTag: tag})
	}
	if _, ok := dns.IsDomainName(signalName("example.", anchors)); !ok {
		t.Errorf("no name: %s", signalName("example.", anchors))
	}
}

// reporting is a small internet whose zone example.com. names an agent, and is
// broken. The agent is agent.plain.org.
func reporting(t *testing.T, agent string) (*internet, *Resolver, func()) {
	t.Helper()
	n, example, plain := smallInternet(t, withNSEC)
	example.valid[1] = n.clock().Add(-time.Hour)
	plain.add("*.agent TXT thanks")
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_REPORTING{Code: dns.EDNS0REPORTING, AgentDomain: agent})
		return m, nil
	}
	r := n.resolver(func(c *Config) { c.ReportErrors = true })
	return n, r, inBackground(t, r)
}

func TestAnAgentIsToldWhatDoesNotValidate(t *testing.T) {
	n, r, idle := reporting(t, "agent.plain.org.")
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeSignatureExpired)
	idle()
	want := "_er.1.www.example.com.7._er.agent.plain.org. TXT"
	if got := asked(n, "_er."); !slices.Contains(got, want) {
		t.Errorf("asked %v, want %s", got, want)
	}
	// The same a moment later is known to the agent.
	n.pass(2 * time.Minute)
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeSignatureExpired)
	idle()
	if got := asked(n, "_er."); len(got) > 0 {
		t.Errorf("told again: %v", got)
	}
}

func TestWhatIsNotReported(t *testing.T) {
	long := strings.Repeat(strings.Repeat("l", 60)+".", 3)
	for _, c := range []struct {
		name, agent, question string
		change                func(*Request)
	}{
		{"for one who wants no trace", "agent.plain.org.", "www.example.com. A", func(q *Request) { q.Quiet = true }},
		{"to one who does not validate", "agent.plain.org.", "www.example.com. A", checkingDisabled},
		{"to an agent within the zone that fails", "agent.example.com.", "www.example.com. A", nil},
		{"to the root", ".", "www.example.com. A", nil},
		{"about a report", "agent.plain.org.", "_er.1.www.example.com. A", nil},
		{"in a name that is too long", long + "plain.org.", "www." + strings.Repeat("n", 60) + ".example.com. A", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, r, idle := reporting(t, c.agent)
			if c.change == nil {
				c.change = func(*Request) {}
			}
			ask(t, r, c.question, c.change)
			idle()
			if got := asked(n, "_er."); len(got) > 0 && !slices.Contains(got, c.question) || len(got) > 1 {
				t.Errorf("asked %v", got)
			}
		})
	}
}

// The agent's own zone is broken, and names an agent too: nobody is told of that.
func TestAReportThatFailsIsNotReported(t *testing.T) {
	n, _, _ := reporting(t, "agent.example.com.")
	second := n.zone("second.com.", withNSEC, "203.0.113.99")
	second.add("www A 192.0.2.1")
	second.valid[1] = n.clock().Add(-time.Hour)
	n.server("203.0.113.99").behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_REPORTING{Code: dns.EDNS0REPORTING, AgentDomain: "agent.example.com."})
		return m, nil
	}
	n.server(exampleAddr).behave = func(_ *dns.Msg, _ bool, honest func() *dns.Msg) (*dns.Msg, error) {
		m := honest()
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_REPORTING{Code: dns.EDNS0REPORTING, AgentDomain: "agent.second.com."})
		return m, nil
	}
	r := n.resolver(func(c *Config) { c.ReportErrors = true })
	idle := inBackground(t, r)
	expectFailure(t, ask(t, r, "www.second.com. A"), dns.ExtendedErrorCodeSignatureExpired)
	idle()
	for _, name := range asked(n, "_er.") {
		if strings.Contains(name, "agent.second.com.") || strings.Count(name, "_er.") > 2 {
			t.Errorf("a report about a report: %s", name)
		}
	}
}

func TestReportsAreBoundedByAgentAndInAll(t *testing.T) {
	var c reports
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sent := func(agents int, at time.Time) (n int) {
		for i := range agents {
			for range 2 * maxAgentReport {
				if c.take(fmt.Sprintf("agent%d.", i), at) {
					n++
				}
			}
		}
		return n
	}
	if n := sent(1, now); n != maxAgentReport {
		t.Errorf("one agent is told %d times in a minute", n)
	}
	if n := sent(100, now); n != maxReports-maxAgentReport {
		t.Errorf("%d more are sent in the same minute", n)
	}
	if n := sent(1, now.Add(time.Minute)); n != maxAgentReport {
		t.Errorf("%d in the next", n)
	}
	if n := sent(1, now.Add(-time.Hour)); n != maxAgentReport {
		t.Errorf("%d after the clock went back", n)
	}
}

func TestWithoutRunNothingIsSentInTheBackground(t *testing.T) {
	n, _, _ := smallInternet(t, withNSEC)
	r := n.resolver(func(c *Config) { c.SignalAnchors = true })
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	if got := asked(n, "_ta-"); len(got) > 0 {
		t.Errorf("asked %v", got)
	}
}

func FuzzReportName(f *testing.F) {
	f.Add("www.example.com.", uint16(1), uint16(7), "agent.example.")
	f.Add(".", uint16(48), uint16(9), "a.")
	f.Add(`a\.b\000.example.`, uint16(65535), uint16(65535), strings.Repeat(strings.Repeat("l", 63)+".", 3))
	f.Fuzz(func(t *testing.T, name string, qtype, code uint16, agent string) {
		name, err := canonical(name)
		if err != nil {
			t.Skip()
		}
		if agent, err = canonical(agent); err != nil || agent == "." {
			t.Skip()
		}
		report, ok := reportName(Question{name, qtype}, code, agent)
		if !ok {
			return
		}
		if !below(agent, report) || dns.CountLabel(report) != dns.CountLabel(name)+dns.CountLabel(agent)+4 {
			t.Errorf("%q, agent %q: reported as %q", name, agent, report)
		}
		if again, err := canonical(report); err != nil || again != report {
			t.Errorf("%q is no name in its one spelling: %v", report, err)
		}
	})
}
