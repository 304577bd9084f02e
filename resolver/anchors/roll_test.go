package anchors

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"cordon/durable/durabletest"
	"cordon/resolver/dnssec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// signer is a key of a zone with its private half.
type signer struct {
	*dns.DNSKEY
	private crypto.Signer
}

func newSigner(t testing.TB, flags uint16) *signer {
	t.Helper()
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 172800}, Flags: flags, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{k, private.(crypto.Signer)}
}

// revoked is the key with the REVOKE bit, which gives it another tag.
func (s *signer) revoked() *signer {
	k := *s.DNSKEY
	k.Flags |= dns.REVOKE
	return &signer{&k, s.private}
}

// root is the root zone as its holder publishes it, and the Resolver that asks it.
type root struct {
	t         testing.TB
	now       time.Time
	published []*signer
	signing   []*signer
	life      time.Duration // of signatures
	down      atomic.Bool
	inForce   []dns.RR // that SetAnchors was told
	asked     atomic.Int64
}

func newRoot(t testing.TB) *root {
	return &root{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), life: 21 * day}
}

func (r *root) clock() time.Time { return r.now }

// set is the DNSKEY set with a signature by each key that signs.
func (r *root) set() dnssec.Set {
	s := dnssec.Set{Name: ".", Type: dns.TypeDNSKEY}
	for _, k := range r.published {
		s.RRs = append(s.RRs, dns.Copy(k.DNSKEY))
	}
	for _, k := range r.signing {
		sig := &dns.RRSIG{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 172800}, Algorithm: k.Algorithm, KeyTag: k.KeyTag(), SignerName: ".",
			Inception: uint32(r.now.Add(-day).Unix()), Expiration: uint32(r.now.Add(r.life).Unix())}
		if err := sig.Sign(k.private, s.RRs); err != nil {
			r.t.Fatal(err)
		}
		s.Sigs = append(s.Sigs, sig)
	}
	return s
}

func (r *root) Keys(_ context.Context, _ string, take func(dnssec.Set) error) error {
	r.asked.Add(1)
	if r.down.Load() {
		return errors.New("no reply")
	}
	return take(r.set())
}

func (r *root) SetAnchors(rrs []dns.RR) error {
	r.inForce = rrs
	return nil
}

// trusts says whether k is among the anchors in force, as DS or DNSKEY.
func (r *root) trusts(k *signer) bool {
	return slices.ContainsFunc(r.inForce, func(rr dns.RR) bool { return fits(rr, k.DNSKEY) })
}

// tracker follows the root, with its state in a file.
func (r *root) tracker(file string, configured ...*signer) *Tracker {
	r.t.Helper()
	c := Config{File: file, Clock: r.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), BuiltIn: true, disk: durabletest.Quick{}}
	for _, k := range configured {
		c.Configured = append(c.Configured, k.ToDS(dns.SHA256))
	}
	t, err := New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.inForce = t.InForce()
	return t
}

// watch lets time pass, refreshing as often as the Tracker itself wants.
func (r *root) watch(t *Tracker, d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); ; {
		wait := t.refresh(r.t.Context(), r, 0)
		if r.now.Add(wait).After(end) {
			r.now = end
			return
		}
		r.now = r.now.Add(wait)
	}
}

func (r *root) expect(t *Tracker, states ...string) {
	r.t.Helper()
	var got []string
	for _, a := range t.Status().Zones[0].Anchors {
		got = append(got, a.State)
	}
	if !slices.Equal(got, states) {
		r.t.Errorf("on %s the keys are %v, want %v", r.now.Format(time.DateOnly), got, states)
	}
}

// TestAWholeRollIsFollowed goes through what the root's holder does when it
// changes keys, with a restart after each step.
func TestAWholeRollIsFollowed(t *testing.T) {
	r := newRoot(t)
	file := filepath.Join(t.TempDir(), "state", "anchors")
	old, zsk := newSigner(t, 257), newSigner(t, 256)
	r.published, r.signing = []*signer{old, zsk}, []*signer{old}
	tr := r.tracker(file, old)
	r.expect(tr, "configured")
	r.watch(tr, 10*day)
	r.expect(tr, "valid")

	next := newSigner(t, 257)
	r.published = []*signer{old, next, zsk}
	r.watch(tr, 29*day)
	tr = r.tracker(file, old)
	r.expect(tr, "valid", "pending")
	if r.trusts(next) {
		t.Error("the new key is trusted before its time")
	}
	r.watch(tr, 3*day)
	tr = r.tracker(file, old)
	r.expect(tr, "valid", "valid")
	if !r.trusts(next) || !r.trusts(old) {
		t.Error("the new key, or the old one, is not trusted")
	}

	r.signing = []*signer{next}
	r.watch(tr, 10*day)
	r.expect(tr, "valid", "valid")

	r.published, r.signing = []*signer{old.revoked(), next, zsk}, []*signer{next, old.revoked()}
	r.watch(tr, 2*day)
	tr = r.tracker(file, old)
	r.expect(tr, "revoked", "valid")
	if r.trusts(old) {
		t.Error("a revoked key is trusted, since it is configured")
	}
	r.published, r.signing = []*signer{next, zsk}, []*signer{next}
	r.watch(tr, 40*day)
	tr = r.tracker(file, old)
	r.expect(tr, "removed", "valid")

	// Whoever stole the old key meanwhile gets nowhere with it.
	r.published, r.signing = []*signer{old, newSigner(t, 257), zsk}, []*signer{old}
	r.watch(tr, 60*day)
	if r.trusts(old) || !r.trusts(next) || len(r.inForce) != 1 {
		t.Errorf("in force: %v", r.inForce)
	}
	if s := tr.Status(); s.Zones[0].Failed == "" || !strings.Contains(s.Alarm, "have not been seen since") {
		t.Errorf("no alarm: %+v", s)
	}
}

func TestAttacksOnTheRollOfKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, r *root, tr *Tracker, good, evil *signer)
		want []string
	}{
		{"a key that vanishes before its hold-down starts anew", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published = []*signer{good, evil}
			r.watch(tr, 29*day)
			r.published = []*signer{good}
			r.watch(tr, 2*day)
			r.published = []*signer{good, evil}
			r.watch(tr, 29*day)
		}, []string{"valid", "pending"}},
		{"a set signed by the new key alone", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published, r.signing = []*signer{good, evil}, []*signer{evil}
			r.watch(tr, 90*day)
		}, []string{"valid"}},
		{"a set in which only an attacker's key is", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published, r.signing = []*signer{evil}, []*signer{evil}
			r.watch(tr, 90*day)
		}, []string{"valid"}},
		{"a key that lives as long as a stolen signature", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published = []*signer{good, evil}
			r.watch(tr, 15*day)
			r.signing = []*signer{evil}
			r.watch(tr, 90*day)
		}, []string{"valid", "pending"}},
		{"a revocation that somebody else signed", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published, r.signing = []*signer{good.revoked(), evil}, []*signer{evil}
			r.watch(tr, 2*day)
		}, []string{"valid"}},
		{"a revocation that nobody signed", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published, r.signing = []*signer{good, good.revoked()}, []*signer{good}
			r.watch(tr, 2*day)
		}, []string{"valid"}},
		{"a revocation signed before the bit was set", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			unmarked := &signer{good.DNSKEY, good.private}
			r.published, r.signing = []*signer{good.revoked(), evil}, []*signer{unmarked}
			r.watch(tr, 2*day)
		}, []string{"valid"}},
		{"a key without the bit of a secure entry point", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			evil.Flags = 256
			r.published = []*signer{good, evil}
			r.watch(tr, 90*day)
		}, []string{"valid"}},
		{"a key of an algorithm that nobody can check", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			odd := *evil.DNSKEY
			odd.Algorithm = 200
			r.published = []*signer{good, {&odd, evil.private}}
			r.watch(tr, 90*day)
		}, []string{"valid"}},
		{"a clock that jumps forward for a year", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published = []*signer{good, evil}
			r.watch(tr, day)
			r.now = r.now.Add(365 * day)
			r.watch(tr, day)
		}, []string{"valid", "pending"}},
		{"a clock that jumps back and forth", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published = []*signer{good, evil}
			for range 10 {
				r.watch(tr, day)
				r.now = r.now.Add(-day)
			}
			r.watch(tr, day)
		}, []string{"valid", "pending"}},
		{"expired signatures", func(t *testing.T, r *root, tr *Tracker, good, evil *signer) {
			r.published, r.life = []*signer{good, evil}, -time.Hour
			r.watch(tr, 90*day)
		}, []string{"valid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoot(t)
			file := filepath.Join(t.TempDir(), "anchors")
			good, evil := newSigner(t, 257), newSigner(t, 257)
			r.published, r.signing = []*signer{good}, []*signer{good}
			tr := r.tracker(file, good)
			r.watch(tr, day)
			c.do(t, r, tr, good, evil)
			for _, again := range []*Tracker{tr, r.tracker(file, good)} {
				r.expect(again, c.want...)
				if r.inForce = again.InForce(); r.trusts(evil) || !r.trusts(good) {
					t.Errorf("in force: %v", r.inForce)
				}
			}
		})
	}
}

// What the attacks fail at must not be the tests' own doing.
func TestTheSameKeyIsTrustedWhenItBehaves(t *testing.T) {
	r := newRoot(t)
	good, next := newSigner(t, 257), newSigner(t, 257)
	r.published, r.signing = []*signer{good, next}, []*signer{good}
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), good)
	r.watch(tr, 31*day)
	r.expect(tr, "valid", "valid")
}

func TestAKeyThatIsMissingStaysTrusted(t *testing.T) {
	r := newRoot(t)
	a, b := newSigner(t, 257), newSigner(t, 257)
	r.published, r.signing = []*signer{a, b}, []*signer{a}
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), a, b)
	r.watch(tr, day)
	r.published = []*signer{a}
	r.watch(tr, 100*day)
	r.expect(tr, "valid", "missing")
	r.published, r.signing = []*signer{b}, []*signer{b}
	r.watch(tr, 2*day)
	r.expect(tr, "missing", "valid")
}

func TestTheLastKeyMayRevokeItselfAndIsMourned(t *testing.T) {
	r := newRoot(t)
	only := newSigner(t, 257)
	r.published, r.signing = []*signer{only}, []*signer{only}
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), only)
	r.watch(tr, day)
	r.published, r.signing = []*signer{only.revoked()}, []*signer{only.revoked()}
	r.watch(tr, 2*day)
	if len(r.inForce) != 0 {
		t.Errorf("in force: %v", r.inForce)
	}
	if alarm := tr.Status().Alarm; !strings.Contains(alarm, "has no trust anchor left") {
		t.Errorf("alarm %q", alarm)
	}
}

// Not every pending key of a set that its holder fills without end is kept.
func TestPendingKeysAreBounded(t *testing.T) {
	r := newRoot(t)
	good := newSigner(t, 257)
	r.published, r.signing = []*signer{good}, []*signer{good}
	for range 2 * maxPending {
		r.published = append(r.published, newSigner(t, 257))
	}
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), good)
	r.watch(tr, day)
	if n := len(tr.Status().Zones[0].Anchors); n != 1+maxPending {
		t.Errorf("%d keys are kept", n)
	}
}

func TestTheLogTellsOfEachChangeOnce(t *testing.T) {
	r := newRoot(t)
	var log bytes.Buffer
	good, next := newSigner(t, 257), newSigner(t, 257)
	r.published, r.signing = []*signer{good, next}, []*signer{good}
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), good)
	tr.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	said := func(times int, text string) {
		t.Helper()
		if n := strings.Count(log.String(), text); n != times {
			t.Errorf("said %d times, not %d: %s\n%s", n, times, text, &log)
		}
		log.Reset()
	}
	r.watch(tr, 2*day)
	said(1, fmt.Sprintf("key=%d from=unknown to=pending", next.KeyTag()))
	r.down.Store(true)
	r.watch(tr, day)
	said(1, "could not be refreshed")
	r.down.Store(false)
	r.watch(tr, day)
	said(1, "were refreshed again")
	r.published = []*signer{good}
	r.watch(tr, 2*day)
	said(1, "a new key is gone before it could be trusted")
}

// A clock that is far ahead shows in the root's own signatures.
func TestKeysThatAreNotOfNowAreAnAlarmAboutTheClock(t *testing.T) {
	r := newRoot(t)
	good := newSigner(t, 257)
	r.published, r.signing = []*signer{good}, []*signer{good}
	r.life = -day
	tr := r.tracker(filepath.Join(t.TempDir(), "anchors"), good)
	tr.refresh(t.Context(), r, 0)
	if alarm := tr.Status().Alarm; !strings.Contains(alarm, "is the clock right?") {
		t.Errorf("alarm %q", alarm)
	}
	r.life = day
	tr.refresh(t.Context(), r, 0)
	if alarm := tr.Status().Alarm; alarm != "" {
		t.Errorf("alarm %q", alarm)
	}
}

func TestTheTimesToAskAreThoseOfRFC5011(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		ttl         time.Duration
		life        time.Duration
		query, next time.Duration // after a set that validated, and one that did not
	}{
		{48 * time.Hour, 21 * day, 24 * time.Hour, 48 * time.Hour / 10},
		{100 * day, 100 * day, 15 * day, day},
		{time.Minute, 21 * day, time.Hour, time.Hour},
		{48 * time.Hour, 10 * time.Hour, 5 * time.Hour, time.Hour},
		{48 * time.Hour, -day, time.Hour, time.Hour},
	} {
		set := dnssec.Set{Sigs: []*dns.RRSIG{{OrigTtl: uint32(c.ttl / time.Second), Expiration: uint32(now.Add(c.life).Unix())}}}
		if got := queryInterval(set, now); got != c.query {
			t.Errorf("TTL %s, signature for %s: asked again after %s, want %s", c.ttl, c.life, got, c.query)
		}
		if got := retryTime(set, now); got != c.next {
			t.Errorf("TTL %s, signature for %s: retried after %s, want %s", c.ttl, c.life, got, c.next)
		}
	}
}

func ExampleState() {
	fmt.Println(Pending, Valid, Missing, Revoked, Removed)
	// Output: pending valid missing revoked removed
}
