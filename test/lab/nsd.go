package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

// NSD is the internet served by processes of NSD (NLnet Labs), one for each set
// of addresses.
type NSD struct {
	port      uint16
	processes []*nsdProcess
}

type nsdProcess struct {
	cmd  *exec.Cmd
	logs chan struct{} // closed when its log has ended
}

// WriteNSD writes zone files and NSD configurations into dir, and gives the
// paths of the latter.
func (i *Internet) WriteNSD(dir string, port uint16) ([]string, error) {
	var configs []string
	for n, group := range i.groups() {
		base := filepath.Join(dir, fmt.Sprintf("nsd-%d", n+1))
		if err := os.MkdirAll(base, 0o700); err != nil {
			return nil, fmt.Errorf("write NSD zones: %w", err)
		}
		var c strings.Builder
		fmt.Fprintf(&c, "server:\n  server-count: 1\n  port: %d\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n", port)
		fmt.Fprintf(&c, "  pidfile: \"\"\n  xfrdfile: \"%[1]s/xfrd\"\n  xfrdir: %[1]q\n  zonelistfile: \"%[1]s/zonelist\"\n  zonesdir: %[1]q\n", base)
		fmt.Fprintf(&c, "  ipv4-edns-size: %d\n  minimal-responses: no\n  rrl-ratelimit: 0\n", udpSize)
		for _, a := range group[0].servers {
			fmt.Fprintf(&c, "  ip-address: %s\n", a)
		}
		c.WriteString("remote-control:\n  control-enable: no\n")
		for _, z := range group {
			file := z.name + "zone"
			if z.name == "." {
				file = "root.zone"
			}
			if err := os.WriteFile(filepath.Join(base, file), z.masterFile(), 0o600); err != nil {
				return nil, fmt.Errorf("write zone %s: %w", z.name, err)
			}
			fmt.Fprintf(&c, "zone:\n  name: %q\n  zonefile: %q\n", z.name, file)
		}
		config := base + ".conf"
		if err := os.WriteFile(config, []byte(c.String()), 0o600); err != nil {
			return nil, fmt.Errorf("write NSD configuration: %w", err)
		}
		configs = append(configs, config)
	}
	return configs, nil
}

// groups gives the zones that are served by the same addresses.
func (i *Internet) groups() [][]*signedZone {
	var out [][]*signedZone
	place := map[string]int{}
	for _, z := range i.zones {
		key := fmt.Sprint(z.servers)
		n, ok := place[key]
		if !ok {
			n = len(out)
			place[key] = n
			out = append(out, nil)
		}
		out[n] = append(out[n], z)
	}
	return out
}

// masterFile is the signed zone in master-file format, SOA first.
func (s *signedZone) masterFile() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, s.at(s.name, dns.TypeSOA)[0])
	write := func(n *node) {
		for _, t := range n.sortedTypes() {
			for _, rr := range n.rrsets[t] {
				if n == s.nodes[s.name] && t == dns.TypeSOA {
					continue
				}
				fmt.Fprintln(&b, rr)
			}
			for _, rr := range n.sigs[t] {
				fmt.Fprintln(&b, rr)
			}
		}
	}
	var all []string
	for name := range s.nodes {
		all = append(all, name)
	}
	sortCanonically(all)
	for _, name := range all {
		write(s.nodes[name])
	}
	for _, owner := range s.nsec3s {
		write(s.proofs[owner])
	}
	return b.Bytes()
}

// StartNSD writes into dir and starts NSD, which has to be installed; port 0
// stands for one that is free. It returns when all processes answer.
func (i *Internet) StartNSD(dir string, port uint16) (_ *NSD, err error) {
	if port == 0 {
		free, err := i.Listen(0)
		if err != nil {
			return nil, err
		}
		port = free.Port()
		free.Close()
	}
	configs, err := i.WriteNSD(dir, port)
	if err != nil {
		return nil, err
	}
	n := &NSD{port: port}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Stop())
		}
	}()
	for _, config := range configs {
		if err := n.start(config); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Port is the one that all addresses listen on.
func (n *NSD) Port() uint16 { return n.port }

// start runs NSD in the foreground and waits for the line of its log that says
// that the zones are loaded and the sockets open.
func (n *NSD) start(config string) error {
	cmd := exec.Command("nsd", "-d", "-c", config) //nolint:gosec // the file that was just written
	// A test that is killed cannot stop its servers: the kernel does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start nsd: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nsd (Debian package nsd): %w", err)
	}
	p := &nsdProcess{cmd: cmd, logs: make(chan struct{})}
	n.processes = append(n.processes, p)
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		if strings.Contains(lines.Text(), "nsd started") {
			go func() {
				defer close(p.logs)
				_, _ = io.Copy(io.Discard, stderr) // ends when the process does
			}()
			return nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	close(p.logs)
	return fmt.Errorf("nsd -c %s did not start:\n%s", config, said.String())
}

// Stop ends the processes and waits for them.
func (n *NSD) Stop() error {
	var errs []error
	for _, p := range n.processes {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("stop nsd: %w", err))
		}
		<-p.logs
		var exit *exec.ExitError
		if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
			errs = append(errs, fmt.Errorf("stop nsd: %w", err))
		}
	}
	n.processes = nil
	return errors.Join(errs...)
}
