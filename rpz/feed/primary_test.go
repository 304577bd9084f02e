package feed

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"cordon/durable"
)

// secret is a TSIG secret as its provider.
type secret string

func (s secret) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	mac := hmac.New(sha256.New, []byte(s))
	mac.Write(msg)
	return mac.Sum(nil), nil
}

func (s secret) Verify(msg []byte, t *dns.TSIG) error {
	mac, err := s.Generate(msg, t)
	if err == nil && fmt.Sprintf("%x", mac) != strings.ToLower(t.MAC) {
		err = dns.ErrSig
	}
	return err
}

func keyOfFeed(s secret) *Key { return &Key{Name: "feed.key.", Algorithm: dns.HmacSHA256, MACs: s} }

// server is a primary at the other end of a pipe. A test sets what it answers.
type server struct {
	t      testing.TB
	secret secret

	mu      sync.Mutex
	serial  uint32
	answers map[uint16][][]string // messages of records, by question type
	rcode   map[uint16]int
	asked   map[uint16]int
	down    bool // nobody answers the dial
	deaf    bool // nothing is answered
	how

	conns sync.WaitGroup
}

// how messages are made.
type how struct {
	spoil func(i int, raw []byte) // changes messages that are signed
	bare  func(i int) bool        // messages that are not signed
	cut   bool                    // the connection ends behind the first message
}

func newServer(t testing.TB) *server {
	s := &server{t: t, secret: "a secret that both sides know", answers: map[uint16][][]string{}, rcode: map[uint16]int{}, asked: map[uint16]int{}}
	s.zone(1, "bad.example CNAME .", "24.0.2.0.192.rpz-ip CNAME .")
	return s
}

func soaText(serial uint32) string {
	return fmt.Sprintf("rpz.example. 60 IN SOA ns. host. %d 300 60 3600 60", serial)
}

func owned(rules ...string) (all []string) {
	for _, r := range rules {
		owner, rest, _ := strings.Cut(r, " ")
		all = append(all, owner+".rpz.example. 60 IN "+rest)
	}
	return all
}

// zone sets the version to serve, as AXFR; IXFR is not known.
func (s *server) zone(serial uint32, rules ...string) {
	s.serial = serial
	s.answers[dns.TypeSOA] = [][]string{{soaText(serial)}}
	all := [][]string{{soaText(serial)}}
	for _, r := range owned(rules...) {
		all = append(all, []string{r})
	}
	s.answers[dns.TypeAXFR] = append(all, []string{soaText(serial)})
	delete(s.answers, dns.TypeIXFR)
	s.rcode[dns.TypeIXFR] = dns.RcodeNotImplemented
}

// difference sets the version to serve, as what changes from another.
func (s *server) difference(from, to uint32, removed, added []string) {
	s.serial = to
	s.answers[dns.TypeSOA] = [][]string{{soaText(to)}}
	m := []string{soaText(to), soaText(from)}
	m = append(m, owned(removed...)...)
	m = append(m, soaText(to))
	m = append(m, owned(added...)...)
	s.answers[dns.TypeIXFR] = [][]string{append(m, soaText(to))}
	s.rcode[dns.TypeIXFR] = 0
}

// set changes what is served while it is being asked.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) times(qtype uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[qtype]
}

func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	s.conns.Go(func() {
		defer far.Close()
		_ = s.serve(far) // the other side went away, or is to be left alone
	})
	return near, nil
}

func (s *server) serve(conn net.Conn) error {
	for {
		var n uint16
		if err := binary.Read(conn, binary.BigEndian, &n); err != nil {
			return err
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(conn, raw); err != nil {
			return err
		}
		q := new(dns.Msg)
		if err := q.Unpack(raw); err != nil {
			s.t.Errorf("a query that is none: %v", err)
			return err
		}
		s.mu.Lock()
		qtype := q.Question[0].Qtype
		s.asked[qtype]++
		messages, rcode, deaf, how := s.answers[qtype], s.rcode[qtype], s.deaf, s.how
		s.mu.Unlock()
		if deaf {
			_, err := conn.Read(raw)
			return err
		}
		if rcode != 0 {
			messages = [][]string{nil}
		}
		mac := ""
		if tsig := q.IsTsig(); tsig != nil {
			mac = tsig.MAC
			if err := dns.TsigVerifyWithProvider(raw, s.secret, "", false); err != nil {
				return err
			}
		}
		if err := s.answer(conn, q, messages, rcode, mac, how); err != nil {
			return err
		}
	}
}

func (s *server) answer(conn net.Conn, q *dns.Msg, messages [][]string, rcode int, mac string, how how) error {
	var pending []byte // messages without a signature, which the next one covers
	for i, records := range messages {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Rcode = rcode
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				s.t.Errorf("%s: %v", text, err)
				return err
			}
			m.Answer = append(m.Answer, rr)
		}
		var raw []byte
		var err error
		if how.bare != nil && how.bare(i) {
			raw, err = m.Pack()
			pending = append(pending, raw...)
		} else {
			m.SetTsig("feed.key.", dns.HmacSHA256, fudge, time.Now().Unix())
			raw, mac, err = dns.TsigGenerateWithProvider(m, covering{s.secret, pending, len(mac) / 2}, mac, i > 0)
			pending = nil
		}
		if err != nil {
			return err
		}
		if how.spoil != nil {
			how.spoil(i, raw)
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
			return err
		}
		if how.cut {
			return io.EOF
		}
	}
	return nil
}

// covering signs the messages before a message with it: they stand behind the MAC
// before, of that many bytes.
type covering struct {
	secret
	pending []byte
	mac     int
}

func (c covering) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	at := 2 + c.mac
	return c.secret.Generate([]byte(string(msg[:at])+string(c.pending)+string(msg[at:])), t)
}

// keeping are feeds of one zone from the server, in a bubble.
func keeping(t testing.TB, dir string, s *server, change func(*Config, *Surroundings)) *Feeds {
	t.Helper()
	c := Config{Name: "malware", Zone: origin, Primary: netip.MustParseAddrPort("192.0.2.70:53"), Key: keyOfFeed(s.secret), MaxAge: 24 * time.Hour}
	around := Surroundings{Dir: dir, StopPages: noPages{}, Clock: time.Now, Dial: s.dial, Log: slog.New(slog.DiscardHandler), Disk: durable.OS{}}
	if change != nil {
		change(&c, &around)
	}
	f, err := New([]Config{c}, around)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// running runs feeds for the rest of the test's bubble.
func running(t *testing.T, f *Feeds, s *server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-ended
		s.conns.Wait()
	}
}

func (f *Feeds) action(t testing.TB, name string) Action {
	t.Helper()
	m, _ := f.Current().Question(asked(t, name))
	return m.Action()
}

func TestAZoneIsTransferredOnceAndThenByDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		f := keeping(t, t.TempDir(), s, nil)
		f.Restore()
		if got := f.Status()[0]; got.Loaded || !strings.Contains(got.Alarm, "nothing of this feed is in force") {
			t.Errorf("before the first transfer: %+v", got)
		}
		defer running(t, f, s)()
		if f.action(t, "bad.example.") != NXDomain {
			t.Fatalf("not in force: %+v", f.Status())
		}
		time.Sleep(301 * time.Second) // its refresh
		synctest.Wait()
		if s.times(dns.TypeSOA) != 1 || s.times(dns.TypeAXFR) != 1 || s.times(dns.TypeIXFR) != 0 {
			t.Errorf("an unchanged serial: asked %v", s.asked)
		}
		s.set(func() {
			s.difference(1, 2, []string{"bad.example CNAME ."}, []string{"worse.example CNAME *.", "bad.example A 192.0.2.1"})
		})
		time.Sleep(300 * time.Second)
		synctest.Wait()
		if s.times(dns.TypeIXFR) != 1 || s.times(dns.TypeAXFR) != 1 {
			t.Errorf("a difference: asked %v", s.asked)
		}
		if f.action(t, "bad.example.") != LocalData || f.action(t, "worse.example.") != NoData || f.Status()[0].Serial != 2 || f.Status()[0].Rules.Active != 3 {
			t.Errorf("after the difference: %+v", f.Status())
		}
		if got := f.Status()[0]; got.Alarm != "" || got.Failure != "" {
			t.Errorf("%+v", got)
		}
	})
}

func TestADifferenceThatCannotBeHadIsReplacedByTheWhole(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*server)
	}{
		{"the primary does not know it", func(s *server) {}},
		{"it refuses it", func(s *server) { s.rcode[dns.TypeIXFR] = dns.RcodeRefused }},
		{"it removes what is not there", func(s *server) {
			s.difference(1, 3, []string{"never.example CNAME ."}, nil)
		}},
		{"it adds what is there", func(s *server) { s.difference(1, 3, nil, []string{"bad.example CNAME ."}) }},
		{"it skips a serial", func(s *server) {
			s.answers[dns.TypeIXFR] = [][]string{{soaText(3), soaText(1), soaText(2), soaText(7), soaText(3), soaText(3)}}
			s.rcode[dns.TypeIXFR] = 0
		}},
		{"it is no transfer", func(s *server) {
			s.answers[dns.TypeIXFR] = [][]string{owned("x CNAME .")}
			s.rcode[dns.TypeIXFR] = 0
		}},
		{"it gives nothing newer after all", func(s *server) {
			s.answers[dns.TypeIXFR] = [][]string{{soaText(1)}}
			s.rcode[dns.TypeIXFR] = 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				f := keeping(t, t.TempDir(), s, nil)
				defer running(t, f, s)()
				s.set(func() {
					s.zone(3, "worse.example CNAME .")
					c.change(s)
				})
				time.Sleep(301 * time.Second)
				synctest.Wait()
				if s.times(dns.TypeIXFR) != 1 || s.times(dns.TypeAXFR) != 2 || f.Status()[0].Serial != 3 {
					t.Errorf("asked %v: %+v", s.asked, f.Status())
				}
				if f.action(t, "bad.example.") != 0 || f.action(t, "worse.example.") != NXDomain {
					t.Errorf("not the new version: %+v", f.Status())
				}
			})
		})
	}
}

func TestADifferenceMayBeAnsweredWithTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		f := keeping(t, t.TempDir(), s, nil)
		defer running(t, f, s)()
		s.set(func() {
			s.zone(3, "worse.example CNAME .")
			s.answers[dns.TypeIXFR], s.rcode[dns.TypeIXFR] = s.answers[dns.TypeAXFR], 0
		})
		time.Sleep(301 * time.Second)
		synctest.Wait()
		if s.times(dns.TypeAXFR) != 1 || f.action(t, "worse.example.") != NXDomain || f.action(t, "bad.example.") != 0 {
			t.Errorf("asked %v: %+v", s.asked, f.Status())
		}
	})
}

// TestWhatIsNotVerifiedIsNotPutInForce breaks a transfer in each way in which it can
// be, and has the version before it stay.
func TestWhatIsNotVerifiedIsNotPutInForce(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*server)
		want  string
	}{
		{"no signature", func(s *server) { s.bare = func(int) bool { return true } }, "does not sign"},
		{"no signature at the end", func(s *server) { s.bare = func(i int) bool { return i == 3 } }, "does not sign"},
		{"a changed record", func(s *server) {
			s.spoil = func(i int, raw []byte) {
				if i == 1 {
					raw[len(origin)+20] ^= 1
				}
			}
		}, "signature with key feed.key. is wrong"},
		{"another secret", func(s *server) {
			s.spoil = func(_ int, raw []byte) { raw[len(raw)-8] ^= 1 }
		}, "signature with key feed.key. is wrong"},
		{"a connection that ends early", func(s *server) { s.cut = true }, "AXFR: "},
		{"another serial at the end", func(s *server) {
			all := s.answers[dns.TypeAXFR]
			all[len(all)-1] = []string{soaText(9)}
		}, "ends with 9"},
		{"nothing but the SOA", func(s *server) { s.zone(2) }, "no rule that can be enforced"},
		{"rules that are all unknown here", func(s *server) { s.zone(2, "32.1.2.0.192.rpz-nsip CNAME .") }, "no rule that can be enforced"},
		{"refused", func(s *server) { s.rcode[dns.TypeAXFR] = dns.RcodeRefused }, "has to allow the transfer"},
		{"an empty message", func(s *server) { s.answers[dns.TypeAXFR] = [][]string{nil} }, "without records"},
		{"the serial of another zone", func(s *server) {
			s.answers[dns.TypeSOA] = [][]string{{"other.example. 60 IN SOA a. b. 2 3 4 5 6"}}
		}, "does not serve the zone"},
		{"a serial that went back", func(s *server) { s.zone(0xffff_fff0, "x.example CNAME .") }, "raise it there"},
		{"more records than a feed may have", func(s *server) { s.zone(2, many(t, 60)...) }, "more than 50 records"},
		{"more bytes", func(s *server) { s.zone(2, "x TXT "+strings.Repeat(strings.Repeat("x", 250)+" ", 40)) }, "more than 8000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				dir := t.TempDir()
				f := keeping(t, dir, s, func(_ *Config, a *Surroundings) { a.Limits = Limits{Records: 50, Bytes: 8000} })
				stop := running(t, f, s)
				s.set(func() {
					s.zone(2, "one.example CNAME .", "two.example CNAME .")
					c.spoil(s)
				})
				time.Sleep(301 * time.Second)
				synctest.Wait()
				got := f.Status()[0]
				if got.Serial != 1 || !strings.Contains(got.Failure, c.want) {
					t.Errorf("serial %d, failure %q, want %q in it", got.Serial, got.Failure, c.want)
				}
				// What the network or a setting of the primary explains may pass.
				passes := strings.HasPrefix(c.name, "a connection") || c.name == "refused"
				if alarm := strings.Contains(got.Alarm, "newest version is not put in force"); alarm == passes {
					t.Errorf("alarm %q", got.Alarm)
				}
				if f.action(t, "bad.example.") != NXDomain || f.action(t, "one.example.") != 0 {
					t.Error("the version before it is not in force any more")
				}
				stop()
				again := keeping(t, dir, s, nil)
				again.Restore()
				if got := again.Status()[0]; got.Serial != 1 || again.action(t, "bad.example.") != NXDomain {
					t.Errorf("nor is it on disk: %+v", got)
				}
			})
		})
	}
}

func many(t testing.TB, n int) (rules []string) {
	t.Helper()
	for i := range n {
		rules = append(rules, fmt.Sprintf("n%d.example CNAME .", i))
	}
	return rules
}

func TestMessagesBetweenSignaturesAreCoveredByTheNext(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		good     bool
	}{{"99 of them", 99, true}, {"100 of them", 100, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.zone(1, many(t, c.messages)...)
				last := c.messages + 1
				s.bare = func(i int) bool { return i > 0 && i < last }
				f := keeping(t, t.TempDir(), s, nil)
				defer running(t, f, s)()
				if got := f.Status()[0]; got.Loaded != c.good {
					t.Errorf("%+v", got)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // and what they say is protected
		s := newServer(t)
		s.bare = func(i int) bool { return i == 1 }
		s.spoil = func(i int, raw []byte) {
			if i == 1 {
				raw[len(origin)+20] ^= 1
			}
		}
		f := keeping(t, t.TempDir(), s, nil)
		defer running(t, f, s)()
		if got := f.Status()[0]; got.Loaded || !strings.Contains(got.Failure, "is wrong") {
			t.Errorf("%+v", got)
		}
	})
}

func TestAPrimaryThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.deaf = true
		f := keeping(t, t.TempDir(), s, func(_ *Config, a *Surroundings) { a.Limits = Limits{Idle: 20 * time.Second} })
		defer running(t, f, s)()
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if got := f.Status()[0]; !strings.Contains(got.Failure, "timeout") {
			t.Errorf("%+v", got)
		}
		s.set(func() { s.deaf = false })
		time.Sleep(firstRetry)
		synctest.Wait()
		if f.action(t, "bad.example.") != NXDomain {
			t.Errorf("not tried again: %+v", f.Status())
		}
	})
}

func TestAStaleFeedIsAnAlarmAndStaysInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		f := keeping(t, t.TempDir(), s, nil)
		defer running(t, f, s)()
		s.set(func() { s.down = true })
		time.Sleep(50 * time.Minute)
		if got := f.Status()[0]; got.Stale || got.Alarm != "" || got.Failure == "" {
			t.Errorf("before its SOA's expire: %+v", got)
		}
		time.Sleep(11 * time.Minute)
		if got := f.Status()[0]; !got.Stale || !strings.Contains(got.Alarm, "stale") || f.action(t, "bad.example.") != NXDomain {
			t.Errorf("after its SOA's expire: %+v", got)
		}
		s.set(func() { s.down = false })
		time.Sleep(61 * time.Second) // its retry
		synctest.Wait()
		if got := f.Status()[0]; got.Stale || got.Alarm != "" || got.Failure != "" || s.times(dns.TypeAXFR) != 1 {
			t.Errorf("confirmed: %+v, asked %v", got, s.asked)
		}
	})
}

func TestAfterARestartTheKeptVersionIsInForceAndAsOldAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		dir := t.TempDir()
		f := keeping(t, dir, s, nil)
		running(t, f, s)()
		s.set(func() { s.down = true })
		time.Sleep(2 * time.Hour)
		f = keeping(t, dir, s, nil)
		f.Restore()
		if got := f.Status()[0]; !got.Loaded || !got.Stale || f.action(t, "bad.example.") != NXDomain {
			t.Errorf("%+v", got)
		}
	})
}

func TestNotifyBringsTheLookForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		f := keeping(t, t.TempDir(), s, nil)
		defer running(t, f, s)()
		s.set(func() { s.zone(2, "worse.example CNAME .") })
		for _, c := range []struct {
			zone, from string
			known      bool
		}{{"other.example.", "192.0.2.70", false}, {origin, "192.0.2.71", false}, {"RPZ.example.", "::ffff:192.0.2.70", true}} {
			if got := f.Notified(c.zone, netip.MustParseAddr(c.from)); got != c.known {
				t.Errorf("%s from %s: %v", c.zone, c.from, got)
			}
			time.Sleep(2 * notifyRest)
			synctest.Wait()
			if got := f.action(t, "worse.example.") == NXDomain; got != c.known {
				t.Errorf("%s from %s: in force %v", c.zone, c.from, got)
			}
		}
		for range 1000 { // words are cheap, looks are not
			f.Notified(origin, netip.MustParseAddr("192.0.2.70"))
		}
		before := s.times(dns.TypeSOA)
		time.Sleep(10 * notifyRest)
		if n := s.times(dns.TypeSOA) - before; n < 1 || n > 2 {
			t.Errorf("a thousand words brought %d looks", n)
		}
	})
}
