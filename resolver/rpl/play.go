package rpl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Resolver is what is tested. Ask answers a packet from a client as it would
// over a stream (so that nothing is cut off); nil means no reply.
type Resolver interface {
	Ask(ctx context.Context, packet []byte, from netip.AddrPort) []byte
	// Close ends it; no Ask is under way.
	Close() error
}

// Stage is where scenarios are played. In tests it is a synctest bubble, in
// which time passes only when the player lets it.
type Stage struct {
	// Build makes the resolver that a scenario asks for. An Unsupported error
	// says that it cannot be had.
	Build func(s Settings, n *Network, clock func() time.Time) (Resolver, error)
	// Settle returns when nothing moves any more without the player.
	Settle func()
	Now    func() time.Time
	Log    func(format string, args ...any) // may be nil
}

// Unsupported is the error of a scenario that cannot be played, and why.
type Unsupported string

func (u Unsupported) Error() string { return "unsupported: " + string(u) }

// maxRounds bounds how many queries the resolver may send in one scenario.
const maxRounds = 5000

// client is where questions come from unless a step says otherwise.
var client = netip.MustParseAddrPort("127.0.0.1:53053")

// Play plays s. The error is nil if everything came as the scenario has it,
// Unsupported if it cannot be played, and else says which step failed and how.
func (st *Stage) Play(s *Scenario) error {
	if s.Settings.Unsupported != "" {
		return Unsupported(s.Settings.Unsupported)
	}
	for _, step := range s.Steps {
		if s.Settings.Snooping && step.Kind == "QUERY" && step.Entry != nil && !step.Entry.RD {
			return Unsupported("access-control: allow_snoop")
		}
	}
	if st.Log == nil {
		st.Log = func(string, ...any) {}
	}
	n := newNetwork(s, st.Log)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &player{Stage: st, network: n, ctx: ctx, now: st.Now()}
	if !s.Settings.Now.IsZero() {
		p.now = s.Settings.Now
	}
	r, err := st.Build(s.Settings, n, p.clock)
	if err != nil {
		return err
	}
	p.resolver = r
	err = p.play(s)
	cancel()
	p.asking.Wait()
	return errors.Join(err, r.Close())
}

// player plays one scenario.
type player struct {
	*Stage
	network  *Network
	resolver Resolver
	ctx      context.Context
	asking   sync.WaitGroup
	rounds   int // replies and silences so far

	mu      sync.Mutex
	now     time.Time // guarded by mu, as all below
	answers []answer  // not yet checked, in the order that they came
}

func (p *player) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// answer is what came for a question.
type answer struct {
	question dns.Question
	reply    *dns.Msg // nil: nothing
	err      error
}

// play goes through the steps as testbound does: the step at hand is looked at
// first, then queries that wait are answered by the ranges in force at that step,
// and only when nothing moves any more does the step happen.
func (p *player) play(s *Scenario) error {
	for i := 0; i < len(s.Steps); {
		step := &s.Steps[i]
		p.Settle()
		done, err := p.check(step)
		if err == nil && !done && p.network.serve(at(s, i)) {
			if p.rounds++; p.rounds > maxRounds {
				err = errors.New("the resolver asks without end")
			} else {
				continue
			}
		}
		if err == nil && !done {
			done, err = p.happen(step)
		}
		if err != nil {
			return fmt.Errorf("step %d (line %d) %s: %w", step.Number, step.Line, step.Kind, err)
		}
		if done {
			i++
		}
	}
	if e := p.network.unasked(); e != nil {
		return fmt.Errorf("nobody asked for the mandatory entry of line %d", e.Line)
	}
	return nil
}

// at is the number that decides which ranges are in force before step i: its own,
// as testbound has it, or that of the step before, as Deckard does.
func at(s *Scenario, i int) int {
	if s.Settings.Deckard && i > 0 {
		i--
	}
	return s.Steps[i].Number
}

// check does the steps that look at what is there; done says that s was one of
// them and there was something.
func (p *player) check(s *Step) (done bool, err error) {
	switch s.Kind {
	case "CHECK_OUT_QUERY":
		switch {
		case p.network.see(func(w *waiting) bool { return w.fits(s) }) == nil:
			return false, nil
		case s.Entry != nil && s.Entry.Adjust["copy_id"]: // which says that it answers, too
			p.network.reply(s)
		}
		return true, nil
	case "CHECK_ANSWER":
		if s.Entry == nil {
			return false, errors.New("no entry")
		}
		a, ok := p.answer(s.Entry)
		if !ok {
			return false, nil
		}
		return true, s.Entry.judge(a)
	}
	return false, nil
}

// judge compares an answer with e.
func (e *Entry) judge(a answer) error {
	switch {
	case a.err != nil:
		return a.err
	case a.reply == nil:
		return errors.New("no reply came")
	}
	if err := e.compare(a.reply); err != nil {
		return fmt.Errorf("%w\nwhat came:\n%s", err, a.reply)
	}
	return nil
}

// happen does s when nothing else moves any more. done is false when s is to be
// looked at again.
func (p *player) happen(s *Step) (done bool, err error) {
	p.Log("  step %d %s", s.Number, s.Kind)
	switch s.Kind {
	case "QUERY":
		return true, p.query(s)
	case "CHECK_ANSWER":
		// The answer has to come past servers that stay silent.
		if !p.silence(func(*waiting) bool { return true }) {
			return false, errors.New("no answer came, and no query is under way")
		}
		p.rounds++
		return false, nil
	case "CHECK_OUT_QUERY":
		return false, errors.New("no such query is waiting")
	case "REPLY":
		if s.Entry == nil {
			return false, errors.New("no entry")
		}
		// It may come too late for a resolver that does not wait that long.
		p.network.reply(s)
	case "TIMEOUT", "ERROR":
		// How often a server is asked again is the resolver's affair.
		p.silence(func(w *waiting) bool { return w.fits(&Step{Address: s.Address}) })
	case "TIME_PASSES":
		return true, p.pass(s)
	case "NOTHING":
	case "INFRA_RTT": // a hint to Unbound's choice of servers, which is not part of what a client sees
	default:
		return false, Unsupported("step " + s.Kind)
	}
	return true, nil
}

// query asks the question of s and lets the resolver go as far as it comes.
func (p *player) query(s *Step) error {
	if s.Entry == nil || s.Entry.Question == nil {
		return errors.New("no question")
	}
	m := s.Entry.message()
	m.Id = uint16(s.Number) // #nosec G115 -- any will do
	m.Response = false
	if m.IsEdns0() == nil {
		m.SetEdns0(dns.DefaultMsgSize, false) // takes extended errors
	}
	packet, err := m.Pack()
	if err != nil {
		return err
	}
	from := client
	if s.Address.IsValid() {
		from = s.Address
	}
	p.asking.Go(func() {
		a := answer{question: m.Question[0]}
		if raw := p.resolver.Ask(p.ctx, packet, from); raw != nil {
			a.reply = new(dns.Msg)
			a.err = a.reply.Unpack(raw)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answers = append(p.answers, a)
	})
	return nil
}

// answer takes the first unchecked answer to e's question, or else the first.
func (p *player) answer(e *Entry) (answer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.answers) == 0 {
		return answer{}, false
	}
	i := slices.IndexFunc(p.answers, func(a answer) bool {
		return e.Question != nil && dns.CanonicalName(a.question.Name) == dns.CanonicalName(e.Question.Name) && a.question.Qtype == e.Question.Qtype
	})
	i = max(i, 0)
	a := p.answers[i]
	p.answers = slices.Delete(p.answers, i, i+1)
	return a, true
}

// silence ends the oldest waiting query that fits without reply.
func (p *player) silence(fits func(*waiting) bool) bool {
	w := p.network.take(fits)
	if w == nil {
		return false
	}
	p.Log("    %s %s: timed out", w.server.Addr(), describe(w.query.Question[0]))
	w.answer <- outcome{err: errNoReply}
	return true
}

// pass lets time pass: ELAPSE and a number of seconds, which may have decimals.
// It is the resolver's clock that goes on; who waits for a server goes on waiting.
func (p *player) pass(s *Step) error {
	if len(s.Args) < 2 || s.Args[0] != "ELAPSE" {
		return Unsupported("TIME_PASSES without ELAPSE")
	}
	d, err := time.ParseDuration(s.Args[1] + "s")
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
	return nil
}
