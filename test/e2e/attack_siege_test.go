package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"cordon/blocklog"
	"cordon/test/await"
)

// siege is a world in which somebody else decides what the resolver is shown:
// its source is a link, and show lets it lead to another folder, all at once.
type siege struct {
	*world
	*press
	authority *authority
	r         *resolver
	whole     *testing.T // the test that the world lives for

	shown  string           // the link
	serial uint64           // in force
	log    *blocklog.Reader // of the block log
	others []refusal        // of other lists than national
}

// newSiege starts a resolver that reads the folder, and an auditor, with a first
// list in force.
func newSiege(t *testing.T) *siege {
	t.Helper()
	s := surround(t)
	s.configure(subscription{authority: s.authority, source: s.shown})
	s.begins()
	return s
}

// surround prepares a siege; begins follows when the resolver is configured.
func surround(t *testing.T) *siege {
	t.Helper()
	w := newWorld(t)
	national := w.found("national")
	return &siege{world: w, authority: national, press: newPress(national), shown: w.path("national/shown"), whole: t}
}

func (s *siege) begins() {
	s.t().Helper()
	s.show(s.edition().dir)
	s.starts()
	s.startAuditor()
	await.Nil(s.t(), "every list is in force", func() error { return atLeast(s.r.metrics(), "cordon_ready", 1) })
	s.takes()
	var err error
	s.log, err = blocklog.OpenReader(s.world.path("resolver/blocklog"), 1)
	s.check(err)
	s.whole.Cleanup(func() { s.log.Close() })
}

// show lets the resolver's source lead to a folder.
func (s *siege) show(dir string) {
	s.t().Helper()
	link := s.shown + ".new"
	s.check(os.Symlink(dir, link))
	s.check(os.Rename(link, s.shown))
}

func (s *siege) t() *testing.T { return s.world.t }

// under runs a part of a test: what fails in it fails there.
func (s *siege) under(t *testing.T, name string, part func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		s.world.t, s.press.t, s.r.t = t, t, t
		defer func() { s.world.t, s.press.t, s.r.t = s.whole, s.whole, s.whole }()
		part(t)
	})
}

// starts starts the resolver, to run until the whole test ends.
func (s *siege) starts() {
	s.t().Helper()
	t := s.world.t
	s.world.t = s.whole
	s.r = s.startResolver()
	s.world.t, s.r.t = t, t
}

// holds checks that a list is enforced, this one and no other, and nothing that
// it does not list.
func (s *siege) holds(serial uint64) error {
	if got := s.r.metrics()[`cordon_list_serial{list="national"}`]; got != float64(serial) {
		return fmt.Errorf("serial %v is in force, not %d", got, serial)
	}
	for name, category := range map[string]string{
		"www." + listedDomain: "terrorism", listedHost: "minors", onlyIn(serial): "terrorism",
	} {
		if err := s.blocked(s.ask(name, dns.TypeA), category); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, want := range map[string]string{"www.libre.example": "192.0.2.10", "www." + listedHost: "198.51.100.31"} {
		if got := addresses(s.ask(name, dns.TypeA)); !slices.Equal(got, []string{want}) {
			return fmt.Errorf("%s is at %v, not at %s", name, got, want)
		}
	}
	for _, other := range []uint64{serial - 1, serial + 1} {
		if isBlocked(s.ask(onlyIn(other), dns.TypeA)) {
			return fmt.Errorf("%s is blocked, which is in list %d alone", onlyIn(other), other)
		}
	}
	return nil
}

// takes waits until the newest honest list is in force.
func (s *siege) takes() {
	s.t().Helper()
	s.r.enforces("national", s.press.serial)
	if err := s.holds(s.press.serial); err != nil {
		s.t().Fatal(err)
	}
	s.serial = s.press.serial
}

// refusal is the data of a list.refused event.
type refusal struct{ List, Reason, Detail string }

// news gives the refusals of the national list that have come into the block log
// since the last look.
func (s *siege) news() (all []refusal) {
	s.t().Helper()
	for {
		record, _, err := s.log.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		s.check(err)
		if record.Event == nil || record.Event.Kind != "list.refused" {
			continue
		}
		var r refusal
		s.check(json.Unmarshal(record.Event.Data, &r))
		if r.List != "national" {
			s.others = append(s.others, r)
			continue
		}
		all = append(all, r)
	}
}

// refuses waits until what is shown has been refused, for one of these reasons,
// and checks that it has changed nothing.
func (s *siege) refuses(before metrics, reasons ...string) {
	s.t().Helper()
	var news []refusal
	await.Nil(s.t(), "the refusal is in the block log", func() error {
		if news = s.news(); len(news) == 0 {
			return errors.New("it is not there")
		}
		return nil
	})
	// Others may follow where the attack was shown while the source was being
	// read; the first is the attack's.
	if r := news[0]; !slices.Contains(reasons, r.Reason) {
		s.t().Errorf("it was refused for %q (%s), where %v was expected", r.Reason, r.Detail, reasons)
	}
	s.t().Logf("refused: %s", news[0].Detail)
	const refused = `cordon_list_updates_total{list="national",result="refused"}`
	if err := atLeast(s.r.metrics(), refused, before[refused]+1); err != nil {
		s.t().Errorf("no alarm in metrics: %v", err)
	}
	if err := s.holds(s.serial); err != nil {
		s.t().Error(err)
	}
}

// recovers shows the next honest edition, which has to be taken.
func (s *siege) recovers() {
	s.t().Helper()
	s.show(s.edition().dir)
	s.takes()
	s.news() // others may have followed the first
}

// attack shows a folder that has to be refused, and then the next honest edition.
func (s *siege) attack(dir string, reasons ...string) {
	s.t().Helper()
	before := s.r.metrics()
	s.show(dir)
	s.refuses(before, reasons...)
	s.recovers()
}
