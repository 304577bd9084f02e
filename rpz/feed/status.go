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
	case k.refused:
		s.Alarm = fmt.Sprintf("the newest version is not put in force, serial %d stays%s", s.Serial, because)
	case s.Stale:
		s.Alarm = fmt.Sprintf("stale: serial %d was last known to be the newest %s ago, more than %s; it stays in force%s", s.Serial, age.Round(time.Second), most, because)
	}
	return s
}

// report notes how the last look at the source went, and says in the log when that
// changes.
func (k *keeper) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	var refused *refusedError
	k.mu.Lock()
	before := k.failure
	k.failure, k.refused = text, errors.As(err, &refused)
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
		kind = "refused"
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
func (f *Feeds) Collector() prometheus.Collector { return collector{f} }

type collector struct{ f *Feeds }

var (
	rulesDesc  = prometheus.NewDesc("cordon_feed_rules", "Rules of a feed, by what became of them: active, unsupported, refused (would lead to a stop page), invalid.", []string{"feed", "state"}, nil)
	serialDesc = prometheus.NewDesc("cordon_feed_serial", "Serial of the feed's version in force.", []string{"feed"}, nil)
	ageDesc    = prometheus.NewDesc("cordon_feed_age_seconds", "Time since the feed's version in force was last known to be the newest; of a file, since it was written.", []string{"feed"}, nil)
	staleDesc  = prometheus.NewDesc("cordon_feed_stale", "1 while the feed is older than max_age or its SOA's expire. It stays in force.", []string{"feed"}, nil)
	alarmDesc  = prometheus.NewDesc("cordon_feed_alarm", "1 while nothing of the feed is in force, its newest version is refused, or it is stale. cordon-resolver status says why.", []string{"feed"}, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rulesDesc, serialDesc, ageDesc, staleDesc, alarmDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	now := c.f.s.Clock()
	for _, s := range c.f.Status() {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		gauge(rulesDesc, float64(s.Rules.Active), "active")
		gauge(rulesDesc, float64(s.Rules.Unsupported), "unsupported")
		gauge(rulesDesc, float64(s.Rules.Refused), "refused")
		gauge(rulesDesc, float64(s.Rules.Invalid), "invalid")
		gauge(staleDesc, oneIf(s.Stale))
		gauge(alarmDesc, oneIf(s.Alarm != ""))
		if s.Loaded {
			gauge(serialDesc, float64(s.Serial))
			gauge(ageDesc, now.Sub(s.Confirmed).Seconds())
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
