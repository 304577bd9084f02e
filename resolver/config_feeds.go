package resolver

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"cordon/rpz"
	"cordon/rpz/feed"
)

// FeedsConfig is the operator's own feeds, response policy zones: a class apart
// from the lists, which they neither weaken nor pre-empt.
type FeedsConfig struct {
	Zones []FeedConfig  `yaml:"zones"` // in order of precedence
	Store string        `yaml:"store"` // folder of their last good versions, 0700
	Log   FeedLogConfig `yaml:"log"`
}

// FeedConfig is one feed: a file, or a zone that is transferred.
type FeedConfig struct {
	Name    string        `yaml:"name"`    // in records and metrics
	Zone    string        `yaml:"zone"`    // name of the zone
	File    string        `yaml:"file"`    // zone file
	Primary string        `yaml:"primary"` // address, with a port if it is not 53
	Key     string        `yaml:"key"`     // file with the TSIG key
	MaxAge  time.Duration `yaml:"max_age"` // past this it is stale, an alarm
}

// FeedLogConfig is the journal of what feeds decide, apart from the block log.
type FeedLogConfig struct {
	Dir          string        `yaml:"dir"`
	SegmentBytes int64         `yaml:"segment_bytes"`
	OnFailure    string        `yaml:"on_failure"` // what is done while it cannot be written: spool or servfail
	SpoolBytes   int64         `yaml:"spool_bytes"`
	Keep         time.Duration `yaml:"keep"` // for how long
}

// journal is the settings that it has in common with the block log.
func (c *FeedLogConfig) journal() *BlocklogConfig {
	return &BlocklogConfig{Dir: c.Dir, SegmentBytes: c.SegmentBytes, OnFailure: c.OnFailure, SpoolBytes: c.SpoolBytes}
}

const (
	defaultFeedAge  = 7 * 24 * time.Hour
	defaultFeedKeep = 30 * 24 * time.Hour
)

func (c *FeedsConfig) paths() []*string {
	paths := []*string{&c.Store, &c.Log.Dir}
	for i := range c.Zones {
		paths = append(paths, &c.Zones[i].File, &c.Zones[i].Key)
	}
	return paths
}

// check fills in defaults, too. blocklog is the folder of the block log.
func (c *FeedsConfig) check(blocklog string) error {
	if len(c.Zones) == 0 {
		return nil
	}
	if c.Store == "" {
		return fmt.Errorf("store: missing; name the folder that keeps the feeds' last good versions, such as /var/lib/cordon/feeds")
	}
	if c.Log.Dir == "" {
		return fmt.Errorf("log.dir: missing; name a folder for what the feeds decide, such as /var/lib/cordon/feedlog")
	}
	if c.Log.Dir == blocklog {
		return fmt.Errorf("log.dir: %s is the block log's, which the auditor seals; name another folder", c.Log.Dir)
	}
	j := c.Log.journal()
	if err := j.check(); err != nil {
		return fmt.Errorf("log.%w", err)
	}
	c.Log.OnFailure = j.OnFailure
	if c.Log.Keep == 0 {
		c.Log.Keep = defaultFeedKeep
	}
	if c.Log.Keep < time.Hour {
		return fmt.Errorf("log.keep: %s; use 1h or more", c.Log.Keep)
	}
	seen := map[string]bool{}
	for i := range c.Zones {
		z := &c.Zones[i]
		if err := z.check(); err != nil {
			return fmt.Errorf("zones[%d] (%s): %w", i, z.Name, err)
		}
		if seen[z.Name] {
			return fmt.Errorf("zones[%d]: name %q is used twice; give each feed a name of its own", i, z.Name)
		}
		seen[z.Name] = true
	}
	return nil
}

func (c *FeedConfig) check() error {
	if !listName.MatchString(c.Name) {
		return fmt.Errorf("name: %q; use 1 to 32 of a-z, 0-9, hyphen and underscore", c.Name)
	}
	if _, ok := dns.IsDomainName(c.Zone); !ok || c.Zone == "" || c.Zone == "." {
		return fmt.Errorf("zone: %q; give the name of the zone as the feed's provider writes it, such as malware.rpz.example", c.Zone)
	}
	switch {
	case (c.File == "") == (c.Primary == ""):
		return fmt.Errorf("file, primary: give one of them, a zone file or the address of the server to transfer the zone from")
	case c.File != "" && c.Key != "":
		return fmt.Errorf("key: a file has none; leave it out")
	case c.Primary != "" && c.Key == "":
		return fmt.Errorf("key: missing; name the file with the TSIG key of the transfer, since what comes unsigned could come from anyone")
	}
	if c.Primary != "" {
		if _, err := c.primary(); err != nil {
			return err
		}
	}
	if c.MaxAge == 0 {
		c.MaxAge = defaultFeedAge
	}
	if c.MaxAge < time.Minute {
		return fmt.Errorf("max_age: %s; use 1m or more", c.MaxAge)
	}
	return nil
}

func (c *FeedConfig) primary() (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(c.Primary); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	a, err := netip.ParseAddrPort(c.Primary)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("primary: %q; give an address, with a port if it is not 53", c.Primary)
	}
	return a, nil
}

// feed reads what the configuration of a feed names.
func (c *FeedConfig) feed() (feed.Config, error) {
	f := feed.Config{Name: c.Name, Zone: c.Zone, File: c.File, MaxAge: c.MaxAge}
	if c.Primary == "" {
		return f, nil
	}
	var err error
	if f.Primary, err = c.primary(); err != nil {
		return f, err
	}
	keys, err := rpz.ReadKeys(c.Key)
	if err != nil {
		return f, fmt.Errorf("key: %w", err)
	}
	if len(keys) != 1 {
		return f, fmt.Errorf("key: %s holds %d keys; give each feed a file with its own", c.Key, len(keys))
	}
	for _, k := range keys {
		f.Key = &feed.Key{Name: k.Name, Algorithm: k.Algorithm, MACs: keys}
	}
	return f, nil
}

// feeds reads what the configuration of all feeds names, for Check.
func (c *FeedsConfig) feeds() (all []feed.Config, err error) {
	for i := range c.Zones {
		f, err := c.Zones[i].feed()
		if err != nil {
			return nil, fmt.Errorf("feed %s: %w", c.Zones[i].Name, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// checkFiles says of the feeds' files what is wrong with them.
func (c *FeedsConfig) checkFiles() error {
	all, err := c.feeds()
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].File == "" {
			continue
		}
		if err := feed.CheckFile(all[i]); err != nil {
			return fmt.Errorf("feed %s: file: %w", all[i].Name, err)
		}
	}
	return nil
}
