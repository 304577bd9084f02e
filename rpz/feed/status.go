package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is what a person wants to know of a feed.
type Status struct {
	Name      string    `json:"name"`
	Zone      string    `json:"zone"`
	Source    string    `json:"source"` // file, or primary
	Loaded    bool      `json:"loaded"` // a version is in force
	Serial    uint32    `json:"serial"`
	Rules     Counts    `json:"rules"`
	Shunned   []string  `json:"shunned"` // rules that are not in force and why, the first of them
	Confirmed time.Time `json:"confirmed"`
	Stale     bool      `json:"stale"`
	Failure   string    `json:"failure"` // why the last look at the source failed; "" if it did not
	Alarm     string    `json:"alarm"`   // what needs a person; "" if nothing does
}

// Status tells of each feed, in order of precedence.
func (f *Feeds) Status() []Status {
	all := make([]Status, 0, len(f.keepers))
	for _, k := range f.keepers {
		all = append(all, k.status(f.s.Clock()))
	}
	return all
}

func (k *keeper) status(now time.Time) Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{Name: k.c.Name, Zone: k.c.Zone, Source: k.c.File, Failure: k.failure, Confirmed: k.confirmed, Shunned: []string{}}
	if s.Source == "" {
		s.Source = k.c.Primary.String()
	}
	because := ""
	if k.failure != "" {
		because = ": " + k.failure
	}
	if k.zone == nil {
		s.Alarm = "nothing of this feed is in force" + because
		return s
	}
	s.Loaded, s.Serial, s.Rules, s.Shunned = true, k.zone.SOA.Serial, k.zone.Counts, append(s.Shunned, k.zone.Shunned...)
	most := k.c.MaxAge
	if expire := seconds(k.zone.SOA.Expire); k.c.File == "" && (most == 0 || expire < most) {
		most = expire
	}
	age := now.Sub(k.confirmed)
	s.Stale = most > 0 && age > most
	switch {
	case k.trouble == refusedVersion:
		s.Alarm = fmt.Sprintf("the newest version is not put in force, serial %d stays%s", s.Serial, because)
	case k.trouble == notKept:
		s.Alarm = fmt.Sprintf("serial %d is in force and not on disk%s", s.Serial, because)
	case s.Stale:
		s.Alarm = fmt.Sprintf("stale: serial %d was last known to be the newest %s ago, more than %s; it stays in force%s", s.Serial, age.Round(time.Second), most, because)
	}
	return s
}

// trouble is what of a failure is an alarm at once. That a primary is not to be
// reached, or gives nothing, becomes one when the feed is stale.
type trouble uint8

const (
	noTrouble trouble = iota
	refusedVersion
	notKept
)

// report notes how the last look at the source went, and says in the log when that
// changes.
func (k *keeper) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	var away *unreachable
	var no *refusal
	var kept *keepError
	t := noTrouble
	switch {
	case err == nil:
	case errors.As(err, &kept):
		t = notKept
	case errors.As(err, &away), errors.As(err, &no): // it may pass; if not, the feed becomes stale
	default:
		t = refusedVersion
	}
	k.mu.Lock()
	before := k.failure
	k.failure, k.trouble = text, t
	k.mu.Unlock()
	k.failed = err != nil
	switch {
	case text == before:
	case err != nil:
		k.f.log.Warn("a feed could not be renewed", "feed", k.c.Name, "error", err)
	default:
		k.f.log.Info("the feed is renewed again", "feed", k.c.Name)
	}
}

// sayAlarm says in the log when an alarm begins, becomes another, or ends.
func (k *keeper) sayAlarm() {
	s := k.status(k.f.s.Clock())
	kind := ""
	switch {
	case s.Alarm == "":
	case !s.Loaded:
		kind = "empty"
	case s.Stale:
		kind = "stale"
	default:
		kind = s.Failure
	}
	switch {
	case kind == k.alarm:
	case kind == "":
		k.f.log.Info("the feed's alarm is over", "feed", k.c.Name)
	default:
		k.f.log.Error("feed alarm", "feed", k.c.Name, "alarm", s.Alarm)
	}
	k.alarm = kind
}

// Collector gives the feeds' metrics.
func (f *Feeds) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"feed"}, labels...), nil)
	}
	return &collector{f,
		desc("cordon_feed_rules", "Rules of a feed, by what became of them: active, unsupported, refused (would lead to a stop page), invalid.", "state"),
		desc("cordon_feed_serial", "Serial of the feed's version in force."),
		desc("cordon_feed_age_seconds", "Time since the feed's version in force was last known to be the newest; of a file, since it was written."),
		desc("cordon_feed_stale", "1 while the feed is older than max_age or its SOA's expire. It stays in force."),
		desc("cordon_feed_alarm", "1 while nothing of the feed is in force, its newest version is refused, it cannot be kept on disk, or it is stale. cordon-resolver status says why."),
	}
}

type collector struct {
	f                                *Feeds
	rules, serial, age, stale, alarm *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.rules, c.serial, c.age, c.stale, c.alarm} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	now := c.f.s.Clock()
	for _, s := range c.f.Status() {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		gauge(c.rules, float64(s.Rules.Active), "active")
		gauge(c.rules, float64(s.Rules.Unsupported), "unsupported")
		gauge(c.rules, float64(s.Rules.Refused), "refused")
		gauge(c.rules, float64(s.Rules.Invalid), "invalid")
		gauge(c.stale, oneIf(s.Stale))
		gauge(c.alarm, oneIf(s.Alarm != ""))
		if s.Loaded {
			gauge(c.serial, float64(s.Serial))
			gauge(c.age, now.Sub(s.Confirmed).Seconds())
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
