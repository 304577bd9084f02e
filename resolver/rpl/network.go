package rpl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Network plays the name servers of a scenario. It has the method that the
// resolver under test sends its queries with. A query waits until the player
// lets a range or a step answer it, or its context ends.
type Network struct {
	s   *Scenario
	log func(format string, args ...any)

	mu      sync.Mutex
	waiting []*waiting      // in the order that they came; guarded by mu, as all below
	used    map[*Entry]bool // has answered
}

// waiting is a query without answer.
type waiting struct {
	server netip.AddrPort
	query  *dns.Msg
	stream bool
	answer chan outcome // of capacity 1, filled once
	// unanswerable: what the ranges have for it was dropped.
	unanswerable bool
}

type outcome struct {
	reply *dns.Msg
	err   error
}

// errNoReply is what silence ends in, when the scenario does not wait for it.
var errNoReply = errors.New("no reply")

func newNetwork(s *Scenario, log func(string, ...any)) *Network {
	return &Network{s: s, log: log, used: map[*Entry]bool{}}
}

// Exchange sends query to server and returns the reply, as the scenario has it.
func (n *Network) Exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg, stream bool) (*dns.Msg, error) {
	n.log("    %s %s?", server.Addr(), describe(query.Question[0]))
	w := &waiting{server: server, query: query, stream: stream, answer: make(chan outcome, 1)}
	n.mu.Lock()
	n.waiting = append(n.waiting, w)
	n.mu.Unlock()
	select {
	case o := <-w.answer:
		return o.reply, o.err
	case <-ctx.Done():
		n.mu.Lock()
		defer n.mu.Unlock()
		n.waiting = slices.DeleteFunc(n.waiting, func(x *waiting) bool { return x == w })
		return nil, context.Cause(ctx)
	}
}

// serve answers the first waiting query that a range in force at step answers;
// false if there is none.
func (n *Network) serve(step int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, w := range n.waiting {
		if w.unanswerable {
			continue
		}
		e := n.find(w, step)
		if e == nil {
			continue
		}
		if e.Adjust["do_not_answer"] || !n.answer(w, e) {
			w.unanswerable = true // what came was no answer to it
			continue
		}
		n.waiting = slices.Delete(n.waiting, i, i+1)
		return true
	}
	return false
}

// answer gives w the reply that e makes, unless a resolver's transport would
// drop it; mu must be held.
func (n *Network) answer(w *waiting, e *Entry) bool {
	n.used[e] = true
	reply, err := e.replyTo(w.query)
	if err != nil || !matches(w.query, reply) {
		n.log("    %s %s: line %d is no reply to it (%v)", w.server.Addr(), describe(w.query.Question[0]), e.Line, err)
		return false
	}
	n.log("    %s %s: line %d, %s", w.server.Addr(), describe(w.query.Question[0]), e.Line, summary(reply))
	w.answer <- outcome{reply: reply}
	return true
}

// find is the entry that answers w; mu must be held.
func (n *Network) find(w *waiting, step int) *Entry {
	for _, r := range n.s.Ranges {
		if step < r.First || step > r.Last || len(r.Servers) > 0 && !slices.Contains(r.Servers, w.server.Addr()) {
			continue
		}
		for _, e := range r.Entries {
			if e.accepts(w.query, w.stream) {
				return e
			}
		}
	}
	return nil
}

// accepts says whether MATCH lets e answer query.
func (e *Entry) accepts(query *dns.Msg, stream bool) bool {
	m, q := e.Match, query.Question[0]
	if m["tcp"] && !stream || m["udp"] && stream {
		return false
	}
	if m["opcode"] && e.Opcode != query.Opcode {
		return false
	}
	whole := m["question"] || m["all"]
	if !whole && !m["qname"] && !m["qtype"] && !m["subdomain"] {
		return true
	}
	if e.Question == nil {
		return false
	}
	if (whole || m["qtype"]) && (e.Question.Qtype != q.Qtype || e.Question.Qclass != q.Qclass) {
		return false
	}
	if (whole || m["qname"]) && !strings.EqualFold(e.Question.Name, q.Name) {
		return false
	}
	return !m["subdomain"] || dns.IsSubDomain(dns.CanonicalName(e.Question.Name), dns.CanonicalName(q.Name))
}

// replyTo is the message that e gives to query, sent over the wire and back.
func (e *Entry) replyTo(query *dns.Msg) (*dns.Msg, error) {
	if e.Raw != nil {
		m := new(dns.Msg)
		packet := slices.Clone(e.Raw)
		if len(packet) >= 2 {
			binary.BigEndian.PutUint16(packet, query.Id)
		}
		return m, m.Unpack(packet)
	}
	m := e.message()
	m.Id = query.Id
	if e.Adjust["copy_query"] {
		m.Question = slices.Clone(query.Question)
	}
	packet, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("entry in line %d: %w", e.Line, err)
	}
	m = new(dns.Msg)
	return m, m.Unpack(packet)
}

// message is e as it stands.
func (e *Entry) message() *dns.Msg {
	m := new(dns.Msg)
	m.MsgHdr = dns.MsgHdr{
		Response: e.QR, Opcode: e.Opcode, Rcode: e.Rcode, Authoritative: e.AA, Truncated: e.TC,
		RecursionDesired: e.RD, RecursionAvailable: e.RA, AuthenticatedData: e.AD, CheckingDisabled: e.CD,
	}
	if e.Question != nil {
		m.Question = []dns.Question{*e.Question}
	}
	m.Answer, m.Ns, m.Extra = slices.Clone(e.Answer), slices.Clone(e.Authority), slices.Clone(e.Additional)
	if (e.DO || e.Options != nil) && m.IsEdns0() == nil {
		m.SetEdns0(dns.DefaultMsgSize, e.DO)
		m.IsEdns0().Option = e.Options
	}
	return m
}

// matches says whether a resolver's transport would take reply for the reply to
// query (RFC 5452 §9.1).
func matches(query, reply *dns.Msg) bool {
	if len(reply.Question) != 1 || !reply.Response || reply.Opcode != query.Opcode {
		return false
	}
	q, r := query.Question[0], reply.Question[0]
	if !strings.EqualFold(q.Name, r.Name) || q.Qtype != r.Qtype || q.Qclass != r.Qclass {
		return false
	}
	reply.Question[0].Name = q.Name
	return true
}

// take removes and returns the oldest waiting query that fits, or nil.
func (n *Network) take(fits func(*waiting) bool) *waiting {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.waiting, fits)
	if i < 0 {
		return nil
	}
	w := n.waiting[i]
	n.waiting = slices.Delete(n.waiting, i, i+1)
	return w
}

// see returns the oldest waiting query that fits and leaves it, or nil.
func (n *Network) see(fits func(*waiting) bool) *waiting {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.IndexFunc(n.waiting, fits); i >= 0 {
		return n.waiting[i]
	}
	return nil
}

// reply takes the oldest waiting query that step speaks of and answers it from
// the step's entry; false if there is none.
func (n *Network) reply(step *Step) bool {
	w := n.take(func(w *waiting) bool { return w.fits(step) })
	if w == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.answer(w, step.Entry) {
		w.answer <- outcome{err: errNoReply}
	}
	return true
}

// unasked is the first mandatory entry that has not answered, or nil.
func (n *Network) unasked() *Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.s.Ranges {
		for _, e := range r.Entries {
			if e.Mandatory && !n.used[e] {
				return e
			}
		}
	}
	return nil
}

// fits says whether w is a query that the step speaks of.
func (w *waiting) fits(s *Step) bool {
	if s.Address.Addr().IsValid() && s.Address.Addr() != w.server.Addr() {
		return false
	}
	return s.Entry == nil || s.Entry.accepts(w.query, w.stream)
}

func describe(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }

func summary(m *dns.Msg) string {
	return fmt.Sprintf("%s, %d+%d+%d records", dns.RcodeToString[m.Rcode], len(m.Answer), len(m.Ns), len(m.Extra))
}
