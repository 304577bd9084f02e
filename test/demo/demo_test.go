// Package demo runs the demo as a person would, and holds it to the fixed points
// that scripts from outside rely on: addresses, folders, names, metrics. The
// addresses are fixed, so the demo must not run on this machine already.
package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cordon/test/await"

	"github.com/miekg/dns"
	"golang.org/x/mod/sumdb/note"
)

const (
	resolver = "127.0.0.1:5300"
	patience = await.Patience // running into it is a failure, never slowness
)

// demo is a running demo and what its window shows.
type demo struct {
	t    *testing.T
	bin  string
	data string
	cmd  *exec.Cmd

	mu     sync.Mutex
	window bytes.Buffer
	ended  chan error
}

func (d *demo) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.window.Write(p)
}

func (d *demo) shown() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.window.String()
}

// start runs cordon-demo and waits until it says that everything runs.
func start(t *testing.T, bin, data string) *demo {
	t.Helper()
	d := &demo{t: t, bin: bin, data: data, ended: make(chan error, 1)}
	d.cmd = exec.Command(filepath.Join(bin, "cordon-demo"), "--offline", "--data", data)
	d.cmd.Stdout, d.cmd.Stderr = d, d
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended where the test went well
		if t.Failed() {
			t.Logf("the demo's window:\n%s", d.shown())
		}
	})
	await.Nil(d.t, "the demo runs", func() error {
		select {
		case err := <-d.ended:
			d.ended <- err
			t.Fatalf("the demo ended at its start: %v\n%s", err, d.shown())
		default:
		}
		return d.shows("Everything runs")
	})
	return d
}

func (d *demo) shows(text string) error {
	if !strings.Contains(d.shown(), text) {
		return fmt.Errorf("the window does not show %q", text)
	}
	return nil
}

// interrupt is Ctrl-C: the demo ends without an error and nothing is left.
func (d *demo) interrupt() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Errorf("after Ctrl-C the demo ended with %v", err)
		}
	case <-time.After(patience):
		d.t.Fatal("the demo does not end")
	}
	for _, left := range processesNaming(d.t, d.data) {
		d.t.Errorf("after Ctrl-C this runs still: %s", left)
	}
}

// processesNaming finds processes with path in their command line.
func processesNaming(t *testing.T, path string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		if line := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(line, path) {
			found = append(found, line)
		}
	}
	return found
}

// run runs a program of the demo to its end.
func (d *demo) run(program string, args ...string) string {
	d.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(d.bin, program), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%s %v: %v\n%s", program, args, err, stderr.String())
	}
	return string(out)
}

func (d *demo) authority(args ...string) string {
	d.t.Helper()
	return d.run("cordon-authority", append([]string{"--data", filepath.Join(d.data, "authority")}, args...)...)
}

func (d *demo) read(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.data, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// pid reads the process id that the demo wrote for one of its children.
func (d *demo) pid(name string) int {
	d.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(d.read("run/" + name + ".pid")))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

func ask(name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, true)
	reply, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, resolver)
	return reply, err
}

// resolves asks for an address and wants it: the stop page's is 127.0.0.1.
func resolves(name, want string, validated bool) error {
	reply, err := ask(name, dns.TypeA)
	if err != nil {
		return err
	}
	if len(reply.Answer) == 0 || reply.AuthenticatedData != validated {
		return fmt.Errorf("%s: %v", name, reply)
	}
	if a, ok := reply.Answer[0].(*dns.A); !ok || a.A.String() != want {
		return fmt.Errorf("%s: %v, want %s", name, reply.Answer, want)
	}
	return nil
}

// metricsAt gives the names of the series that a program exports.
func (d *demo) metricsAt(address string) map[string]bool {
	d.t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	names := map[string]bool{}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if line := s.Text(); !strings.HasPrefix(line, "#") {
			name, _, _ := strings.Cut(line, " ")
			name, labels, _ := strings.Cut(name, "{")
			names[name] = true
			for _, l := range regexp.MustCompile(`([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(labels, -1) {
				names[name+" "+l[1]] = true
				names[name+" "+l[1]+"="+l[2]] = true
			}
		}
	}
	return names
}

// build makes the programs, unless CORDON_BIN names a folder that holds them.
func build(t *testing.T) string {
	t.Helper()
	if ready := os.Getenv("CORDON_BIN"); ready != "" {
		return ready
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "cordon/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return dir
}

func TestDemo(t *testing.T) {
	bin := build(t)
	data := filepath.Join(t.TempDir(), "demo")
	d := start(t, bin, data)

	t.Run("answers as the fixed points say", func(t *testing.T) {
		for _, c := range []struct {
			name, address string
			validated     bool
		}{
			{"propagande.example.", "127.0.0.1", false},
			{"www.propagande.example.", "127.0.0.1", false},
			{"images.example.", "127.0.0.1", false},
			{"alias.libre.example.", "127.0.0.1", false},
			{"www.libre.example.", "192.0.2.10", true},
		} {
			if err := resolves(c.name, c.address, c.validated); err != nil {
				t.Error(err)
			}
		}
		if reply, err := ask("casse.example.", dns.TypeA); err != nil || reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("casse.example: %v %v", reply, err)
		}
	})

	t.Run("encrypted transports answer, to who trusts the demo's authority", d.asksEncrypted)
	t.Run("the clients that people use understand the answers", d.askedByRealClients)
	t.Run("many questions at a time from real clients are all answered", d.loadedByRealClients)

	t.Run("files are where scripts look for them", func(t *testing.T) {
		for _, name := range []string{
			"publish/metadata/timestamp.json", "publish/metadata/1.root.json", "publish/metadata/1.targets.json", "publish/targets",
			"audit/checkpoint", "audit/tile", "authority/register/checkpoint", "authority/register/tile",
			"resolver/resolver.yaml", "auditor/auditor.yaml", "resolver/blocklog", "keys/tls-ca.pem",
		} {
			await.Nil(d.t, "there is "+name, func() error {
				_, err := os.Stat(filepath.Join(data, name))
				return err
			})
		}
		for _, log := range []struct{ vkey, checkpoint string }{
			{"keys/audit.vkey", "audit/checkpoint"}, {"keys/register.vkey", "authority/register/checkpoint"},
		} {
			v, err := note.NewVerifier(strings.TrimSpace(d.read(log.vkey)))
			if err != nil {
				t.Errorf("%s: %v", log.vkey, err)
				continue
			}
			if _, err := note.Open([]byte(d.read(log.checkpoint)), note.VerifierList(v)); err != nil {
				t.Errorf("%s: %v", log.checkpoint, err)
			}
		}
		for _, name := range []string{"resolver", "auditor", "stoppage", "oversight", "internet"} {
			if err := syscall.Kill(d.pid(name), 0); err != nil {
				t.Errorf("%s: process %d: %v", name, d.pid(name), err)
			}
		}
	})

	t.Run("the block log prints as JSON lines", func(t *testing.T) {
		out := d.run("cordon-resolver", "blocklog", "cat", filepath.Join(data, "resolver/blocklog"))
		seen := map[string]bool{}
		for line := range strings.Lines(out) {
			var record struct{ Type, Name string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			seen[record.Type+" "+record.Name] = true
		}
		for _, want := range []string{"started ", "list.applied ", "decision www.propagande.example", "decision alias.libre.example", "decision images.example"} {
			if !seen[want] {
				t.Errorf("no record %q in\n%s", want, out)
			}
		}
	})

	t.Run("metrics have their names", func(t *testing.T) {
		of := d.metricsAt("127.0.0.1:9153")
		for _, want := range []string{
			"cordon_queries_total transport=udp", "cordon_decisions_total list=national", "cordon_decisions_total category=terrorism",
			"cordon_list_serial list=national", "cordon_list_entries list=national", "cordon_blocklog_records_total",
			"cordon_list_updates_total result=applied", "cordon_list_updates_total result=refused", "cordon_list_updates_total result=held",
		} {
			if !of[want] {
				t.Errorf("the resolver exports no %s", want)
			}
		}
		of = d.metricsAt("127.0.0.1:9154")
		for _, want := range []string{"cordon_audit_size", "cordon_audit_lag_records"} {
			if !of[want] {
				t.Errorf("the auditor exports no %s", want)
			}
		}
	})

	t.Run("the stop page says 451 and who blocks", func(t *testing.T) {
		resp, err := http.Get("http://127.0.0.1:8451/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 451 || !strings.Contains(resp.Header.Get("Link"), `rel="blocked-by"`) || len(body) == 0 {
			t.Errorf("status %s, Link %q, %d bytes, %v", resp.Status, resp.Header.Get("Link"), len(body), err)
		}
	})

	t.Run("every printed line can be pasted", func(t *testing.T) { d.pasteGuide() })

	// The printed lines list autre.example and lift propagande.example, in this
	// order, but leave the last signatures to the reader.
	t.Run("a lift and a listing change what is blocked", func(t *testing.T) {
		d.authority("sign", "--key", "targets-1")
		d.authority("sign", "--key", "targets-2")
		published := time.Now()
		d.authority("publish")
		await.Nil(d.t, "the lifted name resolves", func() error { return resolves("www.propagande.example.", "198.51.100.20", true) })
		t.Logf("the lifted name resolved %v after publish was started", time.Since(published).Round(time.Millisecond))
		if err := resolves("autre.example.", "127.0.0.1", false); err != nil {
			t.Error(err)
		}
		await.Nil(d.t, "the window shows the new list", func() error { return d.shows("serial 3") })
	})

	t.Run("a killed resolver is reported, not restarted, and can be started again", func(t *testing.T) {
		if err := syscall.Kill(d.pid("resolver"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await.Nil(d.t, "the window shows the death", func() error { return d.shows("ENDED         resolver") })
		if _, err := ask("images.example.", dns.TypeA); err == nil {
			t.Error("somebody answers though the resolver was killed")
		}
		cmd := exec.Command(filepath.Join(bin, "cordon-resolver"), "run", "--config", filepath.Join(data, "resolver/resolver.yaml"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await.Nil(d.t, "the resolver started by hand answers", func() error { return resolves("images.example.", "127.0.0.1", false) })
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the resolver started by hand ended with %v", err)
		}
	})

	t.Run("Ctrl-C stops everything", func(t *testing.T) { d.interrupt() })

	t.Run("a second start goes on where the first ended", func(t *testing.T) {
		d := start(t, bin, data)
		if err := d.shows("Going on in " + data); err != nil {
			t.Error(err)
		}
		if err := resolves("autre.example.", "127.0.0.1", false); err != nil {
			t.Error(err)
		}
		d.run("cordon-oversight", "mirror", "--config", filepath.Join(data, "oversight/oversight.yaml"))
		d.run("cordon-oversight", "verify", "--config", filepath.Join(data, "oversight/oversight.yaml"))
		d.interrupt()
	})
}

// pasteGuide runs each line that the window offers, as a shell would, in the
// order in which they stand.
func (d *demo) pasteGuide() {
	d.t.Helper()
	pasted := 0
	for line := range strings.Lines(d.shown()) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "  ")
		if !ok || strings.HasPrefix(command, "#") || strings.HasPrefix(command, " ") {
			continue
		}
		program, _, _ := strings.Cut(command, " ")
		if program == "dig" || program == "kdig" || program == "curl" {
			if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") != "true" {
				d.t.Logf("%s is not installed; not run: %s", program, command)
				continue
			}
		}
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			d.t.Errorf("%s: %v\n%s", command, err, out)
		}
		pasted++
	}
	if pasted < 10 {
		d.t.Errorf("only %d lines could be pasted", pasted)
	}
}

func TestAFolderThatIsNotADemosIsRefused(t *testing.T) {
	bin := build(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "cordon-demo"), "--offline", "--data", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not empty") || !strings.Contains(string(out), dir) {
		t.Errorf("%v: %s", err, out)
	}
}
