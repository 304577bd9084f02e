package stoppage

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"cordon/configs"
)

// Config is the configuration file of cordon-stoppage; the example in configs
// explains each key.
type Config struct {
	Listen    []Listen `yaml:"listen"`
	BlockedBy string   `yaml:"blocked_by"` // URL of who carries the block out (RFC 7725 section 4)
	Pages     string   `yaml:"pages"`      // path of the file of texts
	Metrics   string   `yaml:"metrics"`    // address and port; empty for none
	LogLevel  string   `yaml:"log_level"`
	Limits    Limits   `yaml:"limits"`
}

// Listen is an address where the page is served.
type Listen struct {
	Address  string `yaml:"address"`  // IP address and port
	Category string `yaml:"category"` // the only category there; empty for all, by path
}

// Limits bound what the outside can make the server hold.
type Limits struct {
	Connections  int           `yaml:"connections"`   // at one time, at each address
	HeaderBytes  int           `yaml:"header_bytes"`  // of a request
	ReadTimeout  time.Duration `yaml:"read_timeout"`  // for a request to arrive
	WriteTimeout time.Duration `yaml:"write_timeout"` // for the page to be taken
}

// DefaultConfig holds the values of the keys that may be left out.
func DefaultConfig() Config {
	return Config{
		LogLevel: "info",
		Limits: Limits{
			Connections:  4096,
			HeaderBytes:  32 << 10,
			ReadTimeout:  5 * time.Second,
			WriteTimeout: 10 * time.Second,
		},
	}
}

// LoadConfig reads the configuration file at path and the texts that it names,
// and checks both.
func LoadConfig(path string) (*Config, *Texts, error) {
	c := DefaultConfig()
	if err := configs.Load(path, &c); err != nil {
		return nil, nil, err
	}
	if c.Pages == "" {
		return nil, nil, fmt.Errorf("%s: pages: is missing; give the path of the file of texts", path)
	}
	t, err := LoadTexts(configs.Resolve(configs.Dir(path), c.Pages))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: pages: %w", path, err)
	}
	if err := c.Check(t.Categories); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, t, nil
}

// Check says what is missing or wrong, all at once. The categories are those of
// the texts.
func (c *Config) Check(categories []string) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if len(c.Listen) == 0 {
		fail(`listen: names no address; write "- address: 127.0.0.1:8451"`)
	}
	for i, l := range c.Listen {
		if _, err := netip.ParseAddrPort(l.Address); err != nil {
			fail(`listen[%d].address: %q is not an IP address with a port; write "192.0.2.80:80" or "[2001:db8::80]:80"`, i, l.Address)
		}
		if l.Category != "" && !slices.Contains(categories, l.Category) {
			fail("listen[%d].category: there are no texts for %q; the categories are %s", i, l.Category, strings.Join(categories, ", "))
		}
	}
	if c.Metrics != "" {
		if _, err := netip.ParseAddrPort(c.Metrics); err != nil {
			fail(`metrics: %q is not an IP address with a port; write "127.0.0.1:9155"`, c.Metrics)
		}
	}
	// The URL stands between angle brackets in a header field.
	u, err := url.Parse(c.BlockedBy)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || strings.ContainsAny(c.BlockedBy, "<>\" ") {
		fail("blocked_by: %q is not a web address; give the one that says who you are, such as https://operator.example/blocking", c.BlockedBy)
	}
	for _, l := range []struct {
		key string
		ok  bool
		say string
	}{
		{"connections", c.Limits.Connections >= 1 && c.Limits.Connections <= 1<<20, "from 1 to 1048576"},
		{"header_bytes", c.Limits.HeaderBytes >= 4<<10 && c.Limits.HeaderBytes <= 1<<20, "from 4096 to 1048576"},
		{"read_timeout", c.Limits.ReadTimeout > 0 && c.Limits.ReadTimeout <= time.Minute, "from above 0s to 1m"},
		{"write_timeout", c.Limits.WriteTimeout > 0 && c.Limits.WriteTimeout <= time.Minute, "from above 0s to 1m"},
	} {
		if !l.ok {
			fail("limits.%s: out of range; give a value %s", l.key, l.say)
		}
	}
	return errors.Join(errs...)
}
