// Package stage is where servers are measured: a signed laboratory internet on
// loopback addresses, a list that is signed and published as an authority does it,
// and the servers themselves, cordon and others, each a process on cores of its
// own. The measuring is done by test/bench and test/replay.
//
// It needs root (the authoritative servers answer on port 53, since not every
// resolver can be told another) and two cores.
package stage

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cordon/test/lab"
)

// Options say what stands on the stage.
type Options struct {
	Cordon     string // path of cordon-resolver; several builds as NAME=PATH,NAME=PATH
	Extra      string // YAML that is added to cordon's configuration
	Sites      int    // of the laboratory internet
	Core       int    // of the servers
	ClientCore int    // of everything else
}

// Flags adds the options to those of a command.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.Cordon, "cordon", "bin/cordon-resolver", "the program to measure; several, NAME=PATH, to compare builds")
	f.StringVar(&o.Extra, "config", "", "YAML that is added to cordon's configuration")
	f.IntVar(&o.Sites, "sites", 1000, "sites of the laboratory internet")
	f.IntVar(&o.Core, "core", 0, "core of the servers")
	f.IntVar(&o.ClientCore, "client-core", 1, "core of the client and of the authoritative servers")
}

// Stage is one that stands.
type Stage struct {
	Options
	Dir string

	nsd           *lab.NSD
	hints, anchor string // files
	ds            string // the trust anchor as a DS record
	certificates
}

// Open signs the internet, starts its servers, and keeps this process and them to
// the clients' core.
func Open(o Options) (_ *Stage, err error) {
	switch {
	case os.Geteuid() != 0:
		return nil, errors.New("this needs root: the authoritative servers of the laboratory answer on port 53")
	case o.Sites < 1:
		return nil, errors.New("sites have to be at least 1")
	}
	dir, err := os.MkdirTemp("", "cordon-stage-")
	if err != nil {
		return nil, err
	}
	s := &Stage{Options: o, Dir: dir, hints: filepath.Join(dir, "root.hints"), anchor: filepath.Join(dir, "root.ds")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // some of the servers change their user
		return nil, err
	}
	inet, err := lab.Build(s.zones(), time.Now())
	if err != nil {
		return nil, err
	}
	s.ds = strings.TrimSpace(inet.TrustAnchor())
	for path, content := range map[string]string{s.hints: inet.RootHints(), s.anchor: s.ds + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	if s.certificates, err = newCertificates(dir); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if s.nsd, err = inet.StartNSD(filepath.Join(dir, "nsd"), 53); err != nil {
		return nil, err
	}
	return s, pinSelfAndChildren(o.ClientCore)
}

// Close stops the internet and removes all that lies in the stage's folder. The
// servers have to be stopped before.
func (s *Stage) Close() (err error) {
	if s.nsd != nil {
		err = s.nsd.Stop()
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// OnClientCore gives a command as it is run on the clients' core.
func (s *Stage) OnClientCore(command ...string) []string {
	return append([]string{"taskset", "-c", strconv.Itoa(s.ClientCore)}, command...)
}
