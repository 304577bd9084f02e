package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// answer is what of a reply is compared.
type answer struct {
	rcode   int
	ad      bool
	records []string // of the answer section: owner, type and data, sorted; no TTL
	silent  bool     // there was no reply
}

// answerOf takes from a reply what is compared. Order, TTL and the case of names
// are free (RFC 2181 section 5; RFC 4343; caches count down).
func answerOf(m *dns.Msg) answer {
	a := answer{rcode: m.Rcode, ad: m.AuthenticatedData}
	for _, rr := range m.Answer {
		rr = dns.Copy(rr)
		rr.Header().Ttl = 0
		for _, name := range names(rr) {
			*name = dns.CanonicalName(*name)
		}
		a.records = append(a.records, rr.String())
	}
	slices.Sort(a.records)
	return a
}

// names are those in a record of the types that the laboratory has.
func names(rr dns.RR) []*string {
	all := []*string{&rr.Header().Name}
	switch rr := rr.(type) {
	case *dns.CNAME:
		return append(all, &rr.Target)
	case *dns.DNAME:
		return append(all, &rr.Target)
	case *dns.NS:
		return append(all, &rr.Ns)
	case *dns.MX:
		return append(all, &rr.Mx)
	case *dns.SRV:
		return append(all, &rr.Target)
	case *dns.SOA:
		return append(all, &rr.Ns, &rr.Mbox)
	case *dns.RRSIG:
		return append(all, &rr.SignerName)
	case *dns.NSEC:
		return append(all, &rr.NextDomain)
	}
	return all
}

func (a answer) equal(b answer) bool {
	return a.silent == b.silent && a.rcode == b.rcode && a.ad == b.ad && slices.Equal(a.records, b.records)
}

func (a answer) short() string {
	if a.silent {
		return "silent"
	}
	ad := ""
	if a.ad {
		ad = "+AD"
	}
	return fmt.Sprintf("%s%s/%d", dns.RcodeToString[a.rcode], ad, len(a.records))
}

// difference is a question that another resolver answers otherwise than cordon.
type difference struct {
	question question
	peer     string
	ours     answer
	theirs   answer
}

func (d difference) short() string {
	return fmt.Sprintf("%-60s cordon=%s %s=%s", d.question, d.ours.short(), d.peer, d.theirs.short())
}

// String is the difference with all records.
func (d difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s\n", d.question)
	for _, side := range []struct {
		name string
		a    answer
	}{{"cordon", d.ours}, {d.peer, d.theirs}} {
		fmt.Fprintf(&b, "    %-8s %s\n", side.name, side.a.short())
		for _, r := range side.a.records {
			fmt.Fprintf(&b, "      %.110s\n", r)
		}
	}
	return b.String()
}

// patience is for a reply; a question is asked three times.
const patience = 5 * time.Second

// compare asks all resolvers all questions, in order, a few at a time, and gives
// where the first of them differs from another.
func compare(ctx context.Context, resolvers []*resolver, questions []question, atOnce int) ([]difference, error) {
	found := make([][]difference, len(questions))
	next := make(chan int)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := range next {
				ours := ask(ctx, resolvers[0], questions[i])
				for _, r := range resolvers[1:] {
					if theirs := ask(ctx, r, questions[i]); !theirs.equal(ours) {
						found[i] = append(found[i], difference{questions[i], r.name, ours, theirs})
					}
				}
			}
		})
	}
	for i := range questions {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
	return slices.Concat(found...), ctx.Err()
}

// ask asks over UDP, and over TCP where the reply did not fit.
func ask(ctx context.Context, r *resolver, q question) answer {
	for range 3 {
		reply, err := exchange(ctx, "udp", r, q)
		if err == nil && reply.Truncated {
			reply, err = exchange(ctx, "tcp", r, q)
		}
		if err == nil {
			return answerOf(reply)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) {
			break
		}
	}
	return answer{silent: true}
}

func exchange(ctx context.Context, network string, r *resolver, q question) (*dns.Msg, error) {
	client := &dns.Client{Net: network, Timeout: patience}
	reply, _, err := client.ExchangeContext(ctx, q.message(), r.at.String())
	return reply, err
}
