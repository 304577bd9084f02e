package iterate

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// DNS error reporting (RFC 9567): the servers of a zone may name an agent, who is
// told when what they say does not validate. A report is a question for a name
// that is made of the failed question, the code of the error and the agent's name.
// It holds nothing that the zone's own servers have not seen: the question is the
// one that they were asked, and of the client there is no trace.

// reports bounds what is sent, by agent and in all, in each minute.
type reports struct {
	mu    sync.Mutex
	since time.Time      // when the minute began; guarded by mu, as all below
	sent  map[string]int // by agent
	all   int
}

// What is reported in a minute at most. Equal reports are answered from the cache.
const (
	maxReports     = 60
	maxAgentReport = 10
)

// take counts one report, if there is room for it.
func (c *reports) take(agent string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.since); age < 0 || age >= time.Minute {
		c.since, c.sent, c.all = now, map[string]int{}, 0
	}
	if c.all >= maxReports || c.sent[agent] >= maxAgentReport {
		return false
	}
	c.all++
	c.sent[agent]++
	return true
}

// report tells the agent that r, from z's servers, failed as err says, in the
// background.
func (t *task) report(z *zone, r *reply, err error) {
	f := asFailure(err)
	if !t.r.config.ReportErrors || t.quiet || t.cd || t.probing || r == nil || r.agent == "" || f.kind != bogusData {
		return
	}
	// Who cannot be found without the zone that fails could not be told; and no
	// report is ever about a report (RFC 9567 §6.1).
	if below(z.name, r.agent) || strings.HasPrefix(r.q.Name, reportLabel) {
		return
	}
	name, ok := reportName(r.q, f.code, r.agent)
	if !ok || !t.r.reports.take(r.agent, t.now()) {
		return
	}
	t.r.background.start(t.r.background.errands, func(ctx context.Context) {
		t.r.Resolve(ctx, Request{Question: Question{name, dns.TypeTXT}, Quiet: true})
	})
}

const reportLabel = "_er."

// reportName is the name to ask for (RFC 9567 §6.1.1); false when it is no name,
// for its length.
func reportName(q Question, code uint16, agent string) (string, bool) {
	name := reportLabel + strconv.Itoa(int(q.Type)) + "." + strings.TrimPrefix(q.Name, ".") + strconv.Itoa(int(code)) + "." + reportLabel + agent
	name, err := canonical(name)
	return name, err == nil
}

// agentOf is the agent that a message names, or "".
func agentOf(msg *dns.Msg) string {
	opt := msg.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		if channel, ok := o.(*dns.EDNS0_REPORTING); ok {
			if agent, err := canonical(channel.AgentDomain); err == nil && agent != "." {
				return agent
			}
			return ""
		}
	}
	return ""
}
