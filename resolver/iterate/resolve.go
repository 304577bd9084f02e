package iterate

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/cache"
	"cordon/resolver/dnssec"
)

// task is the work for one request. It belongs to one goroutine.
type task struct {
	r  *Resolver
	cd bool // do not validate, and keep what comes apart
	v  *dnssec.Validator
	// deducer works out what known denials say, with an allowance of its own.
	deducer *dnssec.Validator
	spent   Limits // counts, of the fields that count
	// vainNames are the name servers whose look-up is counted in spent.InVain.
	vainNames int
	minimised int // queries that led past a label and no further
	// zones met on the way, so that one whose delegation has no TTL is usable
	// for this request (RFC 1035 §3.2.1).
	zones   map[string]*zone
	active  map[Question]bool // look-ups under way, to find loops
	probing bool              // asking a minimised question
	quiet   bool              // report nothing
	offline bool              // ask nobody
	aged    int               // how much of the answer is old
	renew   time.Duration     // what lives no longer is looked up anew
	// bypassed are forward zones whose servers gave nothing (Forward.First).
	bypassed map[string]bool
}

func (r *Resolver) newTask(cd bool) *task {
	return &task{
		r: r, cd: cd,
		v: &dnssec.Validator{
			Clock:      r.config.Wall,
			Work:       &dnssec.Work{Limit: r.config.Limits.Validation},
			RejectSHA1: r.config.RejectSHA1,
		},
		deducer: &dnssec.Validator{
			Clock: r.config.Wall,
			Work:  &dnssec.Work{Limit: dnssec.Limits{Hashes: deduceHashes}},
		},
		zones:  map[string]*zone{},
		active: map[Question]bool{}, bypassed: map[string]bool{},
	}
}

// found is what one look-up brings: an answer, an alias to follow, or a denial.
type found struct {
	rcode  int
	sets   []cache.RRset // answer, or CNAME, or DNAME with its CNAME
	denial *cache.RRset  // of a negative answer
	target string        // where an alias leads, or ""
}

// Times for which failures are remembered (RFC 9520 §3.2).
const (
	failureTTL = 5 * time.Second
	bogusTTL   = 60 * time.Second
)

// follow looks up q and what its aliases lead to (RFC 1034 §5.2.2, RFC 6672).
func (t *task) follow(ctx context.Context, q Request) *Result {
	res := &Result{Status: dnssec.Secure, TTL: cache.MaxTTL}
	name, seen := q.Name, map[string]bool{q.Name: true}
	for {
		f, err := t.lookup(ctx, Question{name, q.Type})
		if err != nil {
			return failed(asFailure(err))
		}
		res.add(f)
		switch {
		case f.target == "":
			return res
		case seen[f.target]:
			// "CNAME loops signalled as an error" (RFC 1034 §3.6.2), and shown.
			loop := failed(&failure{kind: unreachable, code: dns.ExtendedErrorCodeOther, text: "alias loop at " + f.target})
			loop.Answer = res.Answer
			return loop
		case q.Stop != nil && q.Stop(f.target):
			res.Stopped = f.target
			return res
		}
		if err := spend(&t.spent.Aliases, t.r.config.Limits.Aliases, "aliases"); err != nil {
			return failed(asFailure(err))
		}
		name = f.target
		seen[name] = true
	}
}

// failed is the SERVFAIL that f means.
func failed(f *failure) *Result {
	res := &Result{Rcode: dns.RcodeServerFailure, EDE: []EDE{{f.code, f.text}}}
	switch f.kind {
	case bogusData:
		res.Status, res.TTL = dnssec.Bogus, bogusTTL
	case overload, cancelled:
	default:
		res.TTL = failureTTL
	}
	return res
}

// add appends what one look-up found. The status of a chain is that of its
// weakest link, its rcode that of the last name (RFC 6604 §3).
func (res *Result) add(f *found) {
	res.Rcode = f.rcode
	for _, s := range f.sets {
		res.Answer = append(append(res.Answer, s.RRs...), s.Sigs...)
		res.Authority = append(res.Authority, s.Proof...)
		res.weigh(s)
	}
	if f.denial != nil {
		res.Authority = append(res.Authority, f.denial.Proof...)
		res.weigh(*f.denial)
	}
}

func (res *Result) weigh(s cache.RRset) {
	res.Status = min(res.Status, s.Status)
	res.TTL = min(res.TTL, s.TTL)
	if s.Text == "" {
		return
	}
	e := EDE{s.Code, s.Text}
	for _, have := range res.EDE {
		if have == e {
			return
		}
	}
	res.EDE = append(res.EDE, e)
}

// synthesise is the CNAME that a DNAME makes for name (RFC 6672 §2.2, §3.1).
// ok is false when it would be longer than a name can be.
func synthesise(name string, set cache.RRset) (s cache.RRset, target string, ok bool) {
	d, isDNAME := set.RRs[0].(*dns.DNAME)
	if !isDNAME {
		return cache.RRset{}, "", false
	}
	prefix := name[:len(name)-len(set.Name)]
	if set.Name == "." {
		prefix = name
	}
	target = prefix + d.Target
	if d.Target == "." {
		target = prefix
	}
	target, err := canonical(target)
	if err != nil {
		return cache.RRset{}, "", false
	}
	h := dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl}
	return cache.RRset{
		Name: name, Type: dns.TypeCNAME, Status: set.Status, TTL: set.TTL,
		RRs: []dns.RR{&dns.CNAME{Hdr: h, Target: target}},
	}, target, true
}
