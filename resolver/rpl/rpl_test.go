package rpl

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// script is a small scenario around the steps given.
func script(config, steps string) string {
	return config + "CONFIG_END\nSCENARIO_BEGIN Test\n" + `
RANGE_BEGIN 0 20
	ADDRESS 192.0.2.1
ENTRY_BEGIN
MATCH opcode qtype qname
ADJUST copy_id
REPLY QR AA NOERROR
SECTION QUESTION
www.example. IN A
SECTION ANSWER
www.example. 60 IN A 192.0.2.80 ; a comment
ENTRY_END
RANGE_END
RANGE_BEGIN 21 100 192.0.2.1
ENTRY_BEGIN
MATCH opcode subdomain
ADJUST copy_id copy_query
REPLY QR AA NXDOMAIN
SECTION QUESTION
example. IN A
ENTRY_END
RANGE_END
` + steps + "\nSCENARIO_END\n"
}

const (
	query = "STEP 1 QUERY\nENTRY_BEGIN\nREPLY RD DO\nSECTION QUESTION\nwww.example. IN A\nENTRY_END\n"
	check = "STEP 10 CHECK_ANSWER\nENTRY_BEGIN\nMATCH all\nREPLY QR RD RA DO NOERROR\nSECTION QUESTION\nwww.example. IN A\nSECTION ANSWER\nwww.example. 60 IN A 192.0.2.80\nENTRY_END\n"
)

// relay is a resolver that asks one server, three times at most, and passes on
// what it says.
type relay struct{ n *Network }

func (relay) Close() error { return nil }

func (r relay) Ask(ctx context.Context, packet []byte, _ netip.AddrPort) []byte {
	q := new(dns.Msg)
	if err := q.Unpack(packet); err != nil {
		return nil
	}
	m := new(dns.Msg).SetReply(q)
	m.Rcode = dns.RcodeServerFailure
	for range 3 {
		upstream := new(dns.Msg)
		upstream.Question = q.Question
		got, err := r.n.Exchange(ctx, netip.MustParseAddrPort("192.0.2.1:53"), upstream, false)
		if err == nil {
			m.Rcode, m.Answer, m.Ns = got.Rcode, got.Answer, got.Ns
			break
		}
	}
	m.RecursionAvailable = true
	m.SetEdns0(1232, q.IsEdns0().Do())
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}

func playScript(t *testing.T, text string) (err error) {
	t.Helper()
	s, err := Parse("test.rpl", text)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(*testing.T) {
		stage := Stage{Settle: synctest.Wait, Now: time.Now, Build: func(_ Settings, n *Network, _ func() time.Time) (Resolver, error) {
			return relay{n}, nil
		}}
		err = stage.Play(s)
	})
	return err
}

func TestScenariosPassAndFailAsTheySay(t *testing.T) {
	entry := func(step, words, rest string) string {
		return "STEP " + step + "\nENTRY_BEGIN\n" + words + "\nSECTION QUESTION\nwww.example. IN A\n" + rest + "ENTRY_END\n"
	}
	answered := "SECTION ANSWER\nwww.example. 60 IN A 192.0.2.80\n"
	for _, c := range []struct{ name, config, steps, want string }{
		{"an answer from a range", "server:\n", query + check, ""},
		{"another address", "server:\n", query + strings.Replace(check, "192.0.2.80", "192.0.2.81", 1), "missing"},
		{"more than was wanted", "server:\n", query + entry("10 CHECK_ANSWER", "MATCH all\nREPLY QR RD RA DO NOERROR", ""), "too much"},
		{"another rcode", "server:\n", query + entry("10 CHECK_ANSWER", "MATCH rcode\nREPLY QR SERVFAIL", ""), "rcode NOERROR"},
		{"another flag", "server:\n", query + entry("10 CHECK_ANSWER", "MATCH flags\nREPLY QR RD RA AD NOERROR", ""), "flags"},
		{"what MATCH leaves out does not count", "server:\n", query + entry("10 CHECK_ANSWER", "MATCH rcode\nREPLY QR NOERROR", ""), ""},
		{"another TTL, not asked about", "server:\n", query + strings.Replace(check, " 60 IN", " 61 IN", 1), ""},
		{"another TTL", "server:\n", query + strings.Replace(strings.Replace(check, " 60 IN", " 61 IN", 1), "MATCH all", "MATCH all ttl", 1), "missing"},
		{"an extended error that is not there", "server:\n", query + strings.Replace(check, "MATCH all", "MATCH all ede=6", 1), "extended errors"},
		{"the next range, in force at the check", "server:\n", strings.Replace(query, "STEP 1 ", "STEP 20 ", 1) + entry("30 CHECK_ANSWER", "MATCH all\nREPLY QR RD RA DO NXDOMAIN", ""), ""},
		{"the range at the query, as Deckard has it", "", strings.Replace(query, "STEP 1 ", "STEP 20 ", 1) + strings.Replace(check, "STEP 10", "STEP 30", 1), ""},
		{"silence until nothing is left", "server:\n", strings.ReplaceAll(query, "www.", "none.") + strings.ReplaceAll(entry("10 CHECK_ANSWER", "MATCH all\nREPLY QR RD RA DO SERVFAIL", ""), "www.", "none."), ""},
		{"an answer that nobody asked for", "server:\n", check, "no answer came"},
		{"a query that waits", "server:\n", strings.ReplaceAll(query, "www.", "none.") + strings.ReplaceAll(entry("2 CHECK_OUT_QUERY", "MATCH qname qtype", ""), "www.", "none."), ""},
		{"a query that does not", "server:\n", strings.ReplaceAll(query, "www.", "none.") + entry("2 CHECK_OUT_QUERY", "MATCH qname qtype", ""), "no such query"},
		{"a reply by a step", "server:\n", strings.ReplaceAll(query+entry("2 REPLY", "MATCH qname qtype\nADJUST copy_id\nREPLY QR AA NOERROR", answered)+check, "www.", "none."), ""},
		{"a time-out by a step, and the next try answered", "server:\n", strings.ReplaceAll(query+"STEP 2 TIMEOUT\n"+entry("3 REPLY", "MATCH qname\nADJUST copy_id\nREPLY QR NOERROR", answered)+check, "www.", "none."), ""},
		{"a step that is not known", "server:\n", "STEP 1 TRAFFIC\n", "unsupported: step TRAFFIC"},
		{"an option that is not known", "server:\n\tfrobnicate: yes\n", query + check, "unsupported: frobnicate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := playScript(t, script(c.config, c.steps))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a resolver's transport would not take for the reply, the player drops.
func TestRepliesThatDoNotMatchAreDropped(t *testing.T) {
	reply := func(question string) string {
		return script("server:\n", "RANGE_BEGIN 0 100\nENTRY_BEGIN\nMATCH opcode\nADJUST copy_id\nREPLY QR NOERROR\nSECTION QUESTION\n"+question+"SECTION ANSWER\nx.example. IN A 192.0.2.1\nENTRY_END\nRANGE_END\n"+
			strings.ReplaceAll(query, "www.", "x.")+strings.ReplaceAll(check, "192.0.2.80", "192.0.2.1")[:0]+
			"STEP 10 CHECK_ANSWER\nENTRY_BEGIN\nMATCH rcode\nREPLY QR NOERROR\nENTRY_END\n")
	}
	if err := playScript(t, reply("x.example. IN A\n")); err != nil {
		t.Error(err)
	}
	for _, question := range []string{"", "y.example. IN A\n", "x.example. IN AAAA\n"} {
		if err := playScript(t, reply(question)); err == nil || !strings.Contains(err.Error(), "rcode SERVFAIL") {
			t.Errorf("question %q: %v", question, err)
		}
	}
}

func TestSettingsAreReadInBothWaysOfWritingThem(t *testing.T) {
	s, err := Parse("t", script(`; comment
server:
	trust-anchor: "example. 3600 IN DS 2854 8 1 46e4ffc6e9a4793b488954bd3f0cc6af0dfb201b"  # comment
	val-override-date: "20070916134226"
	qname-minimisation: "no"
	domain-insecure: "Ant.Example"
	private-address: 10.0.0.0/8
	access-control: 127.0.0.1 allow_snoop
forward-zone: name: "fwd." forward-addr: 216.0.0.1
forward-zone:
	name: "fwd2."
	forward-addr: 2001:db8::1@5353
	forward-first: yes
stub-zone:
	name: "."
	stub-addr: 193.0.14.129 	# K.ROOT-SERVERS.NET.
`, query))
	if err != nil {
		t.Fatal(err)
	}
	g := s.Settings
	if g.Unsupported != "" || g.Deckard || !g.NoMinimisation || !g.Snooping || len(g.Anchors) != 1 || len(g.PrivateAddresses) != 1 || g.Insecure[0] != "ant.example." {
		t.Errorf("%+v", g)
	}
	if !g.Now.Equal(time.Date(2007, 9, 16, 13, 42, 26, 0, time.UTC)) {
		t.Errorf("%v", g.Now)
	}
	if len(g.Forwards) != 2 || g.Forwards[0].Name != "fwd." || g.Forwards[0].Servers[0].String() != "216.0.0.1" || !g.Forwards[1].First || g.Forwards[1].Servers[0].String() != "2001:db8::1" {
		t.Errorf("%+v", g.Forwards)
	}
	if len(g.Stubs) != 1 || g.Stubs[0].Name != "." || len(g.Stubs[0].Servers) != 1 {
		t.Errorf("%+v", g.Stubs)
	}
	s, err = Parse("t", script("do-ip6: no\nfeatures: min_ttl = 5 ; default\nval-override-timestamp: 100\nstub-addr: 1.2.3.4\n", query))
	if g := s.Settings; err != nil || !g.Deckard || !g.NoIPv6 || g.MinTTL != 5*time.Second || g.Now.Unix() != 100 || g.Stubs[0].Name != "." {
		t.Errorf("%v %+v", err, g)
	}
}

func TestErrorsNameFileAndLine(t *testing.T) {
	for text, want := range map[string]string{
		"CONFIG_END\nSCENARIO_BEGIN x\n":                                                                        "the file ends before SCENARIO_END",
		"CONFIG_END\nNONSENSE\n":                                                                                "f.rpl:2: \"NONSENSE\"",
		"CONFIG_END\nRANGE_BEGIN 5 1\n":                                                                         "f.rpl:2: RANGE_BEGIN 5 1",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nMATCH sense\n":                                                  "f.rpl:4: MATCH sense",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nREPLY MAYBE\n":                                                  "f.rpl:4: REPLY MAYBE",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\nwww IN A nowhere\n":                             "f.rpl:5: record",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION QUESTION\nwww IN\n":                                     "f.rpl:5: question",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\nwww IN SOA a. b. ( 1 2\nENTRY_END\n":            "f.rpl:6: a parenthesis",
		"CONFIG_END\nADDRESS 192.0.2.1\n":                                                                       "f.rpl:2: ADDRESS outside",
		"val-override-date: never\nCONFIG_END\n":                                                                "val-override-date",
		"CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ADDITIONAL\nHEX_EDNSDATA_BEGIN\n00\nHEX_EDNSDATA_END\n": "f.rpl:7: EDNS option",
	} {
		if _, err := Parse("f.rpl", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTableCountsByFolderAndReason(t *testing.T) {
	var table Table
	table.Add("a", nil)
	table.Add("a", errors.Join(Unsupported("rpz"), nil))
	table.Add("b", errors.New("wrong"))
	table.Add("b", nil)
	var b strings.Builder
	table.Write(&b)
	if !strings.HasSuffix(b.String(), "\nrpl: PASS 2 FAIL 1 UNSUPPORTED 1\n") || !strings.Contains(b.String(), "1  rpz\n") {
		t.Errorf("%s", &b)
	}
}

func TestExceptionsNeedAReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exceptions")
	for text, want := range map[string]string{
		"# comment\n\na/x.rpl: because\n": "",
		"a/x.rpl:\n":                      ":1: write",
		"a/x.rpl\n":                       ":1: write",
		"a/x.rpl: b\na/x.rpl: c\n":        ":2: a/x.rpl is listed twice",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := ReadExceptions(path)
		if want == "" && (err != nil || all["a/x.rpl"] != "because") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v %v", text, all, err)
		}
	}
}

// Whatever is read can be asked about without a panic.
func FuzzParse(f *testing.F) {
	f.Add(script("server:\n", query+check))
	f.Add(script("do-ip6: no\nfeatures: min_ttl = 5\n", "STEP 2 TIME_PASSES ELAPSE 0.5\nSTEP 3 NOTHING\n"))
	f.Add("CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\nHEX_ANSWER_BEGIN\n0011\nHEX_ANSWER_END\nENTRY_END\nSCENARIO_END\n")
	f.Add("CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\na IN A \\# 5 0102030405\nENTRY_END\nSCENARIO_END\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		for _, r := range s.Ranges {
			for _, e := range r.Entries {
				if e.accepts(q, true) {
					if m, err := e.replyTo(q); err == nil {
						_ = e.compare(m)
					}
				}
			}
		}
	})
}
