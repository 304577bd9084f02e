package resolver

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/blocklist"
	"cordon/resolver/policy"
	"cordon/signing"
)

// The first promise: only a signed list redirects. Each test here tries another way
// to lead victim.example to the stop page.

const victim = "victim.example"

// sealedFor is a list that names the victim, as an authority would encrypt it,
// signed by nobody.
func (p *publisher) sealedFor(serial uint64) []byte {
	p.t.Helper()
	l := p.list(serial, "propagande.example", victim)
	var b bytes.Buffer
	p.must(blocklist.Encode(&b, l))
	sealed, err := signing.Seal(b.Bytes(), []string{p.recipient})
	p.must(err)
	return sealed
}

func (o *operated) wantFree(t *testing.T) {
	t.Helper()
	if !o.blocks(t, "propagande.example") {
		t.Error("propagande.example is not blocked: nothing is tested")
	}
	for _, name := range []string{victim, "www." + victim} {
		if o.blocks(t, name) {
			t.Errorf("%s leads to the stop page", name)
		}
	}
}

func TestAnUnsignedFileRedirectsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(p *publisher, target string)
	}{
		{"in place of the target", func(p *publisher, target string) { p.must(os.WriteFile(target, p.sealedFor(2), 0o600)) }},
		{"beside it", func(p *publisher, _ string) {
			p.must(os.WriteFile(p.path("publish/targets/list"), p.sealedFor(2), 0o600))
			p.must(os.WriteFile(p.path("publish/list"), p.sealedFor(2), 0o600))
		}},
		{"in clear, by hand", func(p *publisher, target string) {
			p.must(os.WriteFile(target, []byte(victim+"\n"), 0o600))
		}},
		{"with the metadata edited to fit", func(p *publisher, target string) {
			sealed := p.sealedFor(2)
			old, err := os.ReadFile(target)
			p.must(err)
			p.must(os.WriteFile(target, sealed, 0o600))
			paths, err := filepath.Glob(p.path("publish/metadata/*.targets.json"))
			p.must(err)
			for _, path := range paths {
				raw, err := os.ReadFile(path)
				p.must(err)
				raw = bytes.ReplaceAll(raw, fmt.Appendf(nil, `"length":%d`, len(old)), fmt.Appendf(nil, `"length":%d`, len(sealed)))
				p.must(os.WriteFile(path, raw, 0o600))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPublisher(t)
			p.publish(1, "propagande.example")
			o := operate(t, p.config(t.TempDir(), GuardConfig{}))
			running(t, o.Resolver)
			o.until("/status", `"serial": 1`)
			p.publish(2, "propagande.example", "second.example")
			published, err := p.repo.Published()
			p.must(err)
			c.put(p, p.path("publish/"+published.TargetFile))
			o.until("/status", `"serial"`)
			for range 20 { // polls
				o.wantFree(t)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

func TestAChangedStoreRedirectsNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *publisher, store string)
	}{
		{"another target in the stored list", func(p *publisher, store string) {
			path := filepath.Join(store, "00000000000000000001.tar")
			raw, err := os.ReadFile(path)
			p.must(err)
			p.must(os.WriteFile(path, swapTarget(p, raw), 0o600))
		}},
		{"a stored list of a later serial", func(p *publisher, store string) {
			raw, err := os.ReadFile(filepath.Join(store, "00000000000000000001.tar"))
			p.must(err)
			p.must(os.WriteFile(filepath.Join(store, "00000000000000000009.tar"), swapTarget(p, raw), 0o600))
		}},
		{"a standing that has released it", func(p *publisher, store string) {
			p.must(os.WriteFile(filepath.Join(store, "standing.json"), []byte(`{"format":"cordon-standing/1","list":"national","aside":[],
				"released":[{"id":"id-victim.example","sha256":"","name":"victim.example","guard":"protected","because":"","ruling":{"name":"x","reason":"x","account":"x","at":"2026-01-01T00:00:00Z"}}]}`), 0o600))
		}},
		{"a standing with an order", func(p *publisher, store string) {
			p.must(os.WriteFile(filepath.Join(store, "standing.json"), []byte(`{"format":"cordon-standing/1","list":"national","aside":[],"released":[],
				"order":{"action":"release","serial":1,"entries":[{"id":"id-victim.example","sha256":"","name":"victim.example","scope":"domain","guard":"protected","because":"x","serial":1,"since":"2026-01-01T00:00:00Z","said":true}],
				"ruling":{"name":"x","reason":"x","account":"x","at":"2026-01-01T00:00:00Z"}}}`), 0o600))
		}},
		{"a standing with a rollback to what is not there", func(p *publisher, store string) {
			p.must(os.WriteFile(filepath.Join(store, "standing.json"), []byte(`{"format":"cordon-standing/1","list":"national","aside":[],"released":[],
				"rollback":{"from":1,"to":7,"ruling":{"name":"x","reason":"x","account":"x","at":"2026-01-01T00:00:00Z"}}}`), 0o600))
		}},
		{"a list in clear beside it", func(p *publisher, store string) {
			for _, name := range []string{"list", "list.jsonl", "entries", "overrides", "00000000000000000002"} {
				p.must(os.WriteFile(filepath.Join(store, name), []byte(victim+"\n"), 0o600))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPublisher(t)
			p.publish(1, "propagande.example")
			config := p.config(t.TempDir(), GuardConfig{})
			o := operate(t, config)
			stop := running(t, o.Resolver)
			o.until("/status", `"serial": 1`)
			stop()
			c.change(p, filepath.Join(config.Store, "national"))
			o = operate(t, config)
			running(t, o.Resolver)
			o.until("/status", `"serial": 1`)
			o.wantFree(t)
		})
	}
}

// swapTarget puts another target into a stored publication.
func swapTarget(p *publisher, stored []byte) []byte {
	p.t.Helper()
	var out bytes.Buffer
	in, to := tar.NewReader(bytes.NewReader(stored)), tar.NewWriter(&out)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		p.must(err)
		data, err := io.ReadAll(in)
		p.must(err)
		if strings.HasPrefix(h.Name, "target/") {
			data = p.sealedFor(9)
			h.Size = int64(len(data))
		}
		p.must(to.WriteHeader(h))
		_, err = to.Write(data)
		p.must(err)
	}
	p.must(to.Close())
	return out.Bytes()
}

// TestNoSettingRedirects tries settings that other resolvers have for it, and puts
// the name wherever a setting takes names.
func TestNoSettingRedirects(t *testing.T) {
	for _, setting := range []string{
		"block: [victim.example]", "blocked: [victim.example]", "local_data: {victim.example: 198.51.100.80}", "rpz: victim.zone",
		"policy: {block: [victim.example]}", "policy: {names: [victim.example]}", "guard: {blocked: [victim.example]}",
		"response_policy: [victim.example]", "overrides: [victim.example]",
	} {
		if _, err := LoadConfig(write(t, least+setting+"\n")); err == nil {
			t.Errorf("%s was accepted", setting)
		}
	}
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	config := p.config(t.TempDir(), GuardConfig{Starter: true, Protected: []string{p.path("names")}, Ranking: RankingConfig{File: p.path("ranking"), Top: 10}})
	p.must(os.WriteFile(p.path("names"), []byte(victim+"\n"), 0o600))
	p.must(os.WriteFile(p.path("ranking"), []byte("1,"+victim+"\n"), 0o600))
	config.Policy.OwnNames = []string{victim}
	config.Policy.InfoURL = "https://" + victim + "/"
	o := operate(t, config)
	running(t, o.Resolver)
	o.until("/status", `"serial": 1`)
	o.wantFree(t)
}

// TestNoEnvironmentRedirects holds that the programs read no variable but those
// that are known, none of which is about names.
func TestNoEnvironmentRedirects(t *testing.T) {
	for _, name := range []string{"CORDON_BLOCK", "CORDON_LISTS", "CORDON_BLOCKED", "CORDON_NAMES"} {
		t.Setenv(name, victim)
	}
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{}))
	running(t, o.Resolver)
	o.until("/status", `"serial": 1`)
	o.wantFree(t)

	known := []string{`os.Getenv("NOTIFY_SOCKET")`, "os.Getenv(env)"} // env: the variable of a passphrase
	reads := regexp.MustCompile(`(os|syscall|unix)\.(Getenv|LookupEnv|Environ|ExpandEnv)\b[^)]*\)?`)
	for _, dir := range []string{".", "../blocklist", "../blocklog", "../signing", "../configs", "../cmd/cordon-resolver", "../cmd/internal"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, read := range reads.FindAllString(string(source), -1) {
				if !slices.Contains(known, read) {
					t.Errorf("%s reads the environment: %s", path, read)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheControlSocketRedirectsNothing sends whatever might be understood as a
// wish to block a name.
func TestTheControlSocketRedirectsNothing(t *testing.T) {
	p := newPublisher(t)
	p.publish(1, "propagande.example")
	o := operate(t, p.config(t.TempDir(), GuardConfig{}))
	running(t, o.Resolver)
	o.until("/status", `"serial": 1`)
	bodies := []string{
		"", victim, `["victim.example"]`,
		`{"list":"national","entries":["victim.example"],"name":"Eve","reason":"x"}`,
		`{"list":"national","entries":["id-victim.example"],"name":"Eve","reason":"x"}`,
		`{"list":"national","update":2,"name":"Eve","reason":"x"}`,
		`{"list":"national","name":"Eve","reason":"x"}`,
		`{"list":"national","entries":[{"id":"1","name":"victim.example","scope":"domain"}],"name":"Eve","reason":"x"}`,
	}
	for _, path := range []string{"/list/release", "/list/hold", "/list/rollback", "/list/dry-run?to=running", "/list/add", "/list/import", "/list", "/block", "/status", "/why?name=" + victim} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			for _, body := range bodies {
				o.call(method, path, body)
			}
		}
	}
	o.wantFree(t)
}

// TestNoFeedRedirects has a feed of the operator try: by the page's address and its
// disguises, by its name, and by names that are listed, from each trigger, and
// before the list is known that makes an address a stop page's.
func TestNoFeedRedirects(t *testing.T) {
	n := newInternet(t,
		"victim.example. 60 IN A 192.0.2.10", "victim.example. 60 IN AAAA 2001:db8::10", "stop.example. 60 IN A 198.51.100.80",
		"to-page.example. 60 IN CNAME stop.example.", "at-page.example. 60 IN A 198.51.100.80", "at-page.example. 60 IN AAAA 64:ff9b::c633:6450",
		"to-listed.example. 60 IN CNAME www.propagande.example.", "www.propagande.example. 60 IN A 192.0.2.66")
	leads := []string{
		"A 198.51.100.80", "AAAA ::ffff:198.51.100.80", "AAAA 64:ff9b::198.51.100.80", "AAAA 2002:c633:6450::1", "A 192.0.2.1\n%[1]s A 198.51.100.80",
		"CNAME stop.example.", "CNAME STOP.Example.", "CNAME to-page.example.", "CNAME at-page.example.",
		"CNAME propagande.example.", "CNAME www.propagande.example.", "CNAME *.propagande.example.", "CNAME to-listed.example.",
		"MX 10 stop.example.", "SRV 0 0 443 stop.example.", "HTTPS 1 stop.example. ipv4hint=198.51.100.80", "DNAME stop.example.",
	}
	triggers := []string{victim, "*.example", "32.10.2.0.192.rpz-ip", "32.1.0.0.127.rpz-client-ip"}
	try := func(t *testing.T, f *fed) {
		t.Helper()
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeSRV, dns.TypeHTTPS, dns.TypeTXT, dns.TypeCNAME} {
			reply := f.ask(victim+".", qtype)
			if reply == nil {
				t.Fatal("no answer")
			}
			text := strings.ToLower(reply.String())
			for _, page := range []string{"198.51.100.80", "c633:6450", "stop.example", "propagande"} {
				if strings.Contains(text, page) {
					t.Errorf("%s leads to %s: %v", dns.TypeToString[qtype], page, reply)
				}
			}
			if blocked(reply) {
				t.Errorf("%s: said to be listed: %v", dns.TypeToString[qtype], reply)
			}
			// What was left out leaves nothing free: the rule holds.
			if qtype == dns.TypeA && !byFeed(reply) {
				t.Errorf("the rule is gone: %v", reply)
			}
		}
	}
	f := newFed(t, n, "other.example CNAME .")
	serial := 1
	load := func(rules string) {
		serial++
		f.write(0, serial, rules)
		f.feeds.Restore()
		if got := f.feeds.Status()[0]; got.Serial != uint32(serial) {
			t.Fatalf("%s: not in force: %+v", rules, got)
		}
	}
	for _, trigger := range triggers {
		for _, lead := range leads {
			rules := trigger + " " + strings.ReplaceAll(lead, "%[1]s", trigger)
			t.Run(rules, func(t *testing.T) {
				load(rules)
				try(t, f)
			})
			t.Run("before the list: "+rules, func(t *testing.T) {
				p, err := policy.New([]policy.List{{Name: "national"}})
				if err != nil {
					t.Fatal(err)
				}
				f.policy = p // nothing is listed yet, so nothing leads to a page
				load(rules)
				enforce(t, f.Resolver, 1, "propagande.example")
				try(t, f)
			})
		}
	}
	// The list itself, as a peer would get it, is no feed that redirects.
	load(victim + " A 198.51.100.80\n*." + victim + " A 198.51.100.80\n" + victim + " AAAA 2001:db8::80")
	try(t, f)
}
