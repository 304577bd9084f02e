package iterate

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/resolver/dnssec"
)

// TestAClockThatIsSetLeavesLifetimesAlone sets the time of day in all directions
// while answers are cached: they end when their TTL has passed, and not otherwise.
func TestAClockThatIsSetLeavesLifetimesAlone(t *testing.T) {
	for _, step := range []time.Duration{-5 * time.Hour, -400 * 24 * time.Hour, 5 * time.Hour, 10 * 24 * time.Hour} {
		n, _, _ := smallInternet(t, withNSEC)
		var stepped time.Duration
		r := n.resolver(func(c *Config) { c.Wall = func() time.Time { return n.clock().Add(stepped) } })
		first := ask(t, r, "www.example.com. A")
		expect(t, first, dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
		stepped = step
		n.queries()
		n.pass(59 * time.Minute)
		res := ask(t, r, "www.example.com. A")
		expect(t, res, dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
		if sent := n.queries(); len(sent) > 0 || res.TTL > time.Minute {
			t.Errorf("set by %s: asked %v, %s left", step, sent, res.TTL)
		}
		n.pass(2 * time.Minute)
		ask(t, r, "www.example.com. A")
		if sent := n.queries(); len(sent) == 0 {
			t.Errorf("set by %s: kept past its TTL", step)
		}
	}
}

// TestSignaturesAreJudgedByTheTimeOfDay sets the clock past what signatures allow:
// what is fetched then fails for a reason that names the date, and is good again
// when the clock is.
func TestSignaturesAreJudgedByTheTimeOfDay(t *testing.T) {
	for _, c := range []struct {
		step time.Duration
		code uint16
	}{
		{400 * 24 * time.Hour, dns.ExtendedErrorCodeSignatureExpired},
		{-400 * 24 * time.Hour, dns.ExtendedErrorCodeSignatureNotYetValid},
	} {
		n, _, _ := smallInternet(t, withNSEC)
		stepped := c.step
		r := n.resolver(func(conf *Config) { conf.Wall = func() time.Time { return n.clock().Add(stepped) } })
		expectFailure(t, ask(t, r, "www.example.com. A"), c.code)
		stepped = 0
		n.pass(2 * time.Minute) // failures are kept for a minute
		expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Secure, "192.0.2.80")
	}
}

func TestNegativeTrustAnchorsEndByTheTimeOfDay(t *testing.T) {
	n, example, _ := smallInternet(t, withNSEC)
	example.valid[1] = n.clock().Add(-time.Hour)
	until := n.clock().Add(time.Hour)
	var stepped time.Duration
	r := n.resolver(func(c *Config) {
		c.Wall = func() time.Time { return n.clock().Add(stepped) }
		c.NegativeAnchors = []NegativeAnchor{{Name: "example.com", Until: until}}
	})
	expect(t, ask(t, r, "www.example.com. A"), dns.RcodeSuccess, dnssec.Insecure, "192.0.2.80")
	stepped = 2 * time.Hour
	n.pass(time.Hour + time.Minute)
	expectFailure(t, ask(t, r, "www.example.com. A"), dns.ExtendedErrorCodeSignatureExpired)
}
