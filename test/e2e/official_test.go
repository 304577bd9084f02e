package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cordon/oversight"
)

// official is the oversight official of an authority: they follow its register
// and its publication, and the audit log of the world's resolver, and may read
// the lists and the block log.
type official struct {
	*world
	of     *authority
	config string
}

// official is the official who reads the audit log and the block log from their
// folders.
func (a *authority) official() *official {
	a.t.Helper()
	return a.officialAt(a.name, "    source: ../audit\n    blocklog: ../resolver/blocklog\n")
}

// officialAt writes the configuration official/NAME.yaml, with the settings that
// say where the audit log is. The mirrors are in official/NAME.
func (a *authority) officialAt(name, auditLog string) *official {
	a.t.Helper()
	o := &official{world: a.world, of: a, config: a.path("official/" + name + ".yaml")}
	a.write("official/"+name+".yaml", fmt.Sprintf(`data: %[1]s
logs:
  - name: register
    kind: register
    source: ../%[2]s/authority/register
    vkey: ../%[2]s/authority/register.vkey
  - name: node1
    kind: audit
    vkey: ../keys/audit.vkey
%[3]spublication:
  source: ../%[2]s/publish
  root: %[2]s.root.json
identity: identity
passphrase_file: ../keys/passphrase
`, name, a.name, auditLog))
	a.write("official/"+a.name+".root.json", a.read(a.name+"/publish/metadata/1.root.json"))
	return o
}

// run runs a command of cordon-oversight, which has to find nothing.
func (o *official) run(args ...string) string {
	o.t.Helper()
	return o.succeeds("cordon-oversight", append(args, "--config", o.config)...)
}

// show reads what a command prints as JSON.
func (o *official) show(v any, args ...string) {
	o.t.Helper()
	out := o.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		o.t.Fatalf("cordon-oversight %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// verifies brings the official's copies up to date and holds them against each
// other and against the block log: nothing is found, and nothing is left out
// but what is said here.
func (o *official) verifies(unchecked ...string) {
	o.t.Helper()
	o.run("mirror")
	var report oversight.Report
	o.show(&report, "verify")
	for _, f := range report.Findings {
		if f.Severity != oversight.Notice {
			o.t.Errorf("the official finds: %v", f)
		}
	}
	if !slices.Equal(report.NotChecked, unchecked) {
		o.t.Errorf("not checked: %q", report.NotChecked)
	}
	written := o.written()
	for _, l := range report.Logs {
		if a := l.Audit; a != nil && (a.Next != written.next || a.Records != written.next-1 || a.Decisions != sum(written.decisions) || a.Removed != 0) {
			o.t.Errorf("the official counts %d records and %d decisions up to %d; the block log has %d records and %d decisions", a.Records, a.Decisions, a.Next-1, written.next-1, sum(written.decisions))
		}
	}
}

// countsDecisions compares what the official is shown of the decisions with the
// block log, name by name.
func (o *official) countsDecisions() {
	o.t.Helper()
	var shown []oversight.Decisions
	o.show(&shown, "show", "decisions")
	got, want := map[string]uint64{}, map[string]uint64{}
	for _, d := range shown {
		for _, n := range d.Names {
			got[n.Name] += n.Count
		}
	}
	for q, n := range o.written().decisions {
		want[q.name] += n
	}
	if len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) { // maps print sorted
		o.t.Errorf("the official is shown %v, the block log holds %v", got, want)
	}
}

// seesLists compares the lists that the official is shown, oldest first, with
// how many entries each had, and finds each of them applied.
func (o *official) seesLists(entries ...int) {
	o.t.Helper()
	var shown []oversight.ListChange
	o.show(&shown, "show", "lists")
	var got []int
	for _, l := range shown {
		got = append(got, l.Entries)
		if l.Authority != "Office "+o.of.name || len(l.Applied) == 0 || l.Published.IsZero() {
			o.t.Errorf("the official is shown the list %+v", l)
		}
	}
	if !slices.Equal(got, entries) {
		o.t.Errorf("the official is shown lists of %v entries, published were %v", got, entries)
	}
}

// The official reads the audit log, and the records that it seals, from a
// server of the auditor's own, which answers nobody else.
func TestTheOfficialsChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	national := w.found("national")
	serial := national.list("terrorism", "propagande.example")
	w.subscribe(national)
	r := w.startResolver()
	r.enforces("national", serial)

	channel := w.freePort()
	ca := newCA(t)
	w.write("auditor/ca.pem", ca.certificate)
	for who, address := range map[string]netip.Addr{"auditor": w.address, "official": {}} {
		certificate, key := ca.issue(t, who, address)
		w.write(who+"/tls.pem", certificate)
		w.write(who+"/tls.key", key)
	}
	stranger, key := newCA(t).issue(t, "stranger", netip.Addr{})
	w.write("official/stranger.pem", stranger)
	w.write("official/stranger.key", key)
	w.auditChannel = fmt.Sprintf("listen: %q\ntls: {certificate: tls.pem, key: tls.key, client_ca: ca.pem}\n", channel)
	w.startAuditor()

	for range 10 {
		if err := w.blocked(w.ask("www.propagande.example", dns.TypeA), "terrorism"); err != nil {
			t.Error(err)
		}
	}
	w.sealsEverything()
	reads := func(certificate string) *official {
		return national.officialAt(national.name, fmt.Sprintf("    source: https://%[1]s/\n    blocklog: https://%[1]s/\n    ca: ../auditor/ca.pem\n%[2]s", channel, certificate))
	}
	for _, certificate := range []string{"", "    cert: stranger.pem\n    key: stranger.key\n"} {
		o := reads(certificate)
		if out := o.fails("cordon-oversight", "mirror", "--config", o.config); !strings.Contains(out, "cordon-oversight: mirror node1: ") || strings.Contains(out, "\nnode1: ") {
			t.Errorf("without a certificate of the official's the log is refused with: %s", out)
		}
	}
	o := reads("    cert: tls.pem\n    key: tls.key\n")
	o.verifies()
	o.countsDecisions()
}

// authorityOfCertificates signs certificates for one test.
type authorityOfCertificates struct {
	certificate string // PEM
	template    *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(t *testing.T) *authorityOfCertificates {
	t.Helper()
	ca := &authorityOfCertificates{template: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of certificates"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	ca.certificate = ca.sign(t, ca.template, &ca.key.PublicKey)
	return ca
}

func (ca *authorityOfCertificates) sign(t *testing.T, template *x509.Certificate, public *ecdsa.PublicKey) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, ca.template, public, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// issue makes a certificate and its key: of a server at an address, or of a
// client.
func (ca *authorityOfCertificates) issue(t *testing.T, name string, address netip.Addr) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if address.IsValid() {
		template.IPAddresses = []net.IP{address.AsSlice()}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return ca.sign(t, template, &private.PublicKey), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
