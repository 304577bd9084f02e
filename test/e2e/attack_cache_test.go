package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cordon/test/await"

	"github.com/miekg/dns"
)

// What the resolver keeps on disk may be damaged while it does not run. It starts
// with the last list that verifies, goes behind nothing that it has seen, and
// takes what is published next.
func TestDamageToWhatTheResolverKeeps(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	old := s.press.edition()
	s.show(s.rotate(func() {}).dir)
	s.takes()
	s.recovers()

	damages := []struct {
		name   string
		damage func(path string) error
	}{
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"cut", func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		}},
		{"zeros", func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, make([]byte, info.Size()), 0o600)
		}},
		{"four gigabytes long", func(path string) error { return os.Truncate(path, 4<<30) }},
		{"gone", os.Remove},
	}
	for _, file := range []string{"client/timestamp.json", "client/snapshot.json", "client/root/2.root.json", "client"} {
		for _, d := range damages {
			if file == "client" && d.name != "gone" {
				continue
			}
			s.under(t, file+" is "+d.name, func(t *testing.T) {
				s.r.terminate()
				damage := d.damage
				if file == "client" {
					damage = os.RemoveAll
				}
				s.check(damage(s.world.path("resolver/lists/national/" + file)))
				s.starts()
				if err := s.holds(s.serial); err != nil {
					t.Fatal(err)
				}
				// An older publication is known as such all the same.
				s.attack(old.dir, "rollback")
			})
		}
	}

	// The list itself. The one before it takes its place, which is an alarm, until
	// the source gives the newer one again.
	for _, d := range damages {
		if d.name == "gone" || d.name == "four gigabytes long" {
			continue // what follows the end of an archive is not read
		}
		s.under(t, "the stored list is "+d.name, func(t *testing.T) {
			s.recovers() // so that both stored lists are whole
			s.damageStored(d.damage, 1)
			s.show(s.world.path("nowhere"))
			s.starts()
			previous := s.serial - 1
			s.alarm("store")
			if err := s.holds(previous); err != nil {
				t.Fatal(err)
			}
			// What was in force before the damage is still the floor.
			s.show(old.dir)
			s.alarm("rollback")
			if err := s.holds(previous); err != nil {
				t.Fatal(err)
			}
			s.recovers()
		})
	}
	s.under(t, "both stored lists are cut", func(t *testing.T) {
		s.recovers()
		s.damageStored(damages[1].damage, 2)
		s.show(s.world.path("nowhere"))
		s.starts()
		s.alarm("store")
		// Nothing is answered unfiltered.
		for _, name := range []string{"www.libre.example", "www." + listedDomain} {
			reply := s.ask(name, dns.TypeA)
			if _, notReady := extended(reply)[dns.ExtendedErrorCodeNotReady]; reply.Rcode != dns.RcodeServerFailure || !notReady {
				t.Errorf("without a list %s is answered with %v", name, reply)
			}
		}
		s.recovers()
	})
	// A list that somebody else has put there is not the authority's.
	s.under(t, "the stored list is another's", func(t *testing.T) {
		s.recovers()
		s.damageStored(func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			at := bytes.LastIndex(raw, []byte("age-encryption.org"))
			if at < 0 {
				return errors.New("it holds no envelope")
			}
			raw[at+len("age-encryption.org/v1\n-> ")] ^= 1
			return os.WriteFile(path, raw, 0o600)
		}, 1)
		s.show(s.world.path("nowhere"))
		s.starts()
		s.alarm("store")
		if err := s.holds(s.serial - 1); err != nil {
			t.Fatal(err)
		}
		s.recovers()
	})
	s.sealsEverything()
}

// damageStored stops the resolver and damages the newest stored lists.
func (s *siege) damageStored(damage func(path string) error, number uint64) {
	s.t().Helper()
	s.r.terminate()
	for n := range number {
		s.check(damage(filepath.Join(s.world.dir, "resolver/lists/national", fmt.Sprintf("%020d.tar", s.serial-n))))
	}
}

// alarm waits until a refusal for one of these reasons is on record, and looks
// at the metric.
func (s *siege) alarm(reasons ...string) {
	s.t().Helper()
	await.Nil(s.t(), fmt.Sprintf("a refusal for %q", reasons), func() error {
		for _, r := range s.news() {
			for _, reason := range reasons {
				if r.Reason == reason {
					return nil
				}
			}
		}
		return errors.New("it is not in the block log")
	})
	if err := atLeast(s.r.metrics(), `cordon_list_updates_total{list="national",result="refused"}`, 1); err != nil {
		s.t().Error(err)
	}
}
