package iterate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// recorded carries queries to servers whose replies were made beforehand, so that
// a benchmark measures who asks.
type recorded struct {
	replies map[Question][]byte
	slow    *internet // asked for what is not recorded
}

func (r *recorded) Exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg, stream bool) (*dns.Msg, error) {
	question := Question{q.Question[0].Name, q.Question[0].Qtype}
	packet, ok := r.replies[question]
	if !ok {
		m, err := r.slow.Exchange(ctx, server, q, stream)
		if err == nil && m.Authoritative {
			packet, err = m.Pack()
			r.replies[question] = packet
		}
		return m, err
	}
	if _, err := q.Pack(); err != nil { // as a transport does
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(packet)
}

// BenchmarkMiss resolves names that are not in the cache, below delegations that
// are: one query to a server, its reply, and the validation of it.
func BenchmarkMiss(b *testing.B) {
	const names = 2048
	for name, zone := range map[string]string{"unsigned": "plain.org.", "signed": "example.com."} {
		b.Run(name, func(b *testing.B) {
			n, example, plain := smallInternet(b, withNSEC)
			z, status := plain, dnssec.Insecure
			if zone == example.name {
				z, status = example, dnssec.Secure
			}
			for i := range names {
				z.add(fmt.Sprintf("w%d A 203.0.113.81", i))
			}
			x := &recorded{replies: map[Question][]byte{}, slow: n}
			questions := make([]Question, names)
			for i := range questions {
				questions[i] = Question{fmt.Sprintf("w%d.%s", i, zone), dns.TypeA}
			}
			warm := func() *Resolver {
				r := n.resolver(func(c *Config) { c.Exchange = x })
				if res := ask(b, r, zone+" SOA"); res.Status != status {
					b.Fatalf("%+v", res)
				}
				return r
			}
			r := warm()
			for _, q := range questions {
				r.Resolve(context.Background(), Request{Question: q})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i%names == 0 {
					b.StopTimer()
					r = warm()
					b.StartTimer()
				}
				res := r.Resolve(context.Background(), Request{Question: questions[i%names]})
				if res.Status != status || len(res.Answer) == 0 {
					b.Fatalf("%v: %+v", questions[i%names], res)
				}
				i++
			}
		})
	}
}
