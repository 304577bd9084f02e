package audit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Config is the auditor's configuration file (configs/cordon-auditor.yaml).
type Config struct {
	Blocklog       string        `yaml:"blocklog"`        // folder of the resolver's block log; read only
	Log            string        `yaml:"log"`             // folder of the audit log
	Key            string        `yaml:"key"`             // file of the log's signer key, encrypted
	VerifierKey    string        `yaml:"verifier_key"`    // file that "init" writes the verifier key to; default: key + ".vkey"
	PassphraseFile string        `yaml:"passphrase_file"` // opens key; else CORDON_PASSPHRASE, else the terminal
	Sealed         string        `yaml:"sealed"`          // file that tells the resolver what is sealed; empty: none
	SealInterval   time.Duration `yaml:"seal_interval"`   // between leaves of decisions
	Listen         string        `yaml:"listen"`          // address for the official, HTTPS; empty: none
	TLS            TLSConfig     `yaml:"tls"`             // needed with listen
	Metrics        string        `yaml:"metrics"`         // address of the metrics, HTTP; empty: none
	LogLevel       string        `yaml:"log_level"`       // debug, info, warn, error
}

// TLSConfig is the channel to the official.
type TLSConfig struct {
	Certificate string `yaml:"certificate"` // PEM chain of this server
	Key         string `yaml:"key"`         // its private key, PEM
	ClientCA    string `yaml:"client_ca"`   // PEM; who holds a certificate of it may read
}

// DefaultConfig is what holds where the file says nothing.
func DefaultConfig() Config {
	return Config{SealInterval: 10 * time.Second, Metrics: "127.0.0.1:9154", LogLevel: "info"}
}

// Resolve makes every path absolute by resolve, and fills in those that follow
// from others.
func (c *Config) Resolve(resolve func(string) string) {
	if c.VerifierKey == "" && c.Key != "" {
		c.VerifierKey = c.Key + ".vkey"
	}
	for _, p := range []*string{
		&c.Blocklog, &c.Log, &c.Key, &c.VerifierKey, &c.PassphraseFile, &c.Sealed,
		&c.TLS.Certificate, &c.TLS.Key, &c.TLS.ClientCA,
	} {
		*p = resolve(*p)
	}
}

// Validate names everything that is wrong with the configuration, each with its
// setting. It opens no file.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, s := range []struct{ name, value, what string }{
		{"blocklog", c.Blocklog, "the folder of the resolver's block log"},
		{"log", c.Log, "a folder for the audit log"},
		{"key", c.Key, "the file of the log's key, which \"cordon-auditor init\" creates"},
	} {
		if s.value == "" {
			wrong("%s: it is missing; give %s", s.name, s.what)
		}
	}
	if c.Blocklog != "" && c.Blocklog == c.Log {
		wrong("log: %q is the block log; the audit log needs a folder of its own", c.Log)
	}
	if c.SealInterval < 100*time.Millisecond || c.SealInterval > 5*time.Minute {
		wrong("seal_interval: %v is not between 100ms and 5m; the default is 10s", c.SealInterval)
	}
	address := func(name, value string) {
		if value == "" {
			return
		}
		if _, err := net.ResolveTCPAddr("tcp", value); err != nil {
			wrong("%s: %q is not an address such as 127.0.0.1:9154: %w", name, value, err)
		}
	}
	address("listen", c.Listen)
	address("metrics", c.Metrics)
	if c.Listen != "" && (c.TLS.Certificate == "" || c.TLS.Key == "" || c.TLS.ClientCA == "") {
		wrong("tls: certificate, key and client_ca are needed with listen, since the log is confidential")
	}
	if c.Listen == "" && c.TLS != (TLSConfig{}) {
		wrong("tls: it has no effect without listen; set listen, or remove tls")
	}
	return errors.Join(errs...)
}

// Check looks at the files that the configuration names, as far as that is
// possible without the passphrase.
func (c *Config) Check() error {
	var errs []error
	for _, f := range []struct{ name, path string }{
		{"key", c.Key}, {"verifier_key", c.VerifierKey}, {"passphrase_file", c.PassphraseFile},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if c.Listen != "" {
		if _, err := loadTLS(c.TLS); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
