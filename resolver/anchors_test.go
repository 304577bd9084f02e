package resolver

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestOperatorsSeeTheTrustAnchorsAndTheirAlarm starts with a state that somebody
// has changed.
func TestOperatorsSeeTheTrustAnchorsAndTheirAlarm(t *testing.T) {
	dir := t.TempDir()
	c := newResolver(t, newInternet(t)).config
	c.Blocklog.Dir = filepath.Join(dir, "blocklog")
	c.Recursion.AnchorState = filepath.Join(dir, "anchors")
	if err := os.WriteFile(c.Recursion.AnchorState, []byte("trust everyone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(c, Surroundings{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: time.Now, Exchange: newInternet(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := r.Status().Anchors
	if len(s.Zones) != 1 || len(s.Zones[0].Anchors) != 2 || s.Zones[0].Anchors[0].Tag != 20326 || s.Zones[0].Anchors[0].State != "configured" {
		t.Errorf("anchors %+v", s)
	}
	if !strings.Contains(s.Alarm, c.Recursion.AnchorState) {
		t.Errorf("alarm %q", s.Alarm)
	}
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(`
# HELP cordon_trust_anchors Trust anchors of DNSSEC validation, by zone and state (RFC 5011).
# TYPE cordon_trust_anchors gauge
cordon_trust_anchors{state="configured",zone="."} 2
cordon_trust_anchors{state="missing",zone="."} 0
cordon_trust_anchors{state="pending",zone="."} 0
cordon_trust_anchors{state="removed",zone="."} 0
cordon_trust_anchors{state="revoked",zone="."} 0
cordon_trust_anchors{state="valid",zone="."} 0
# HELP cordon_trust_anchors_alarm 1 while the trust anchors need a person: cordon-resolver status says why.
# TYPE cordon_trust_anchors_alarm gauge
cordon_trust_anchors_alarm 1
`), "cordon_trust_anchors", "cordon_trust_anchors_alarm"); err != nil {
		t.Error(err)
	}
}
