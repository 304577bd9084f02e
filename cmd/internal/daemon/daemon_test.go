package daemon

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunEndsAtSIGTERMWithoutError(t *testing.T) {
	err := Run(context.Background(), func(ctx context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatalf("a run that was told to stop returned %v", err)
	}
}

func TestRunPassesFailuresOn(t *testing.T) {
	failed := errors.New("port in use")
	if err := Run(context.Background(), func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Fatalf("got %v, want %v", err, failed)
	}
}

func TestReadyReachesTheServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Ready(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		t.Fatalf("service manager read %q, %v", b[:n], err)
	}
}

func TestReadyNamesASocketThatIsNotThere(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := Ready(); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Fatalf("got %v", err)
	}
}

func TestLoggerRefusesAnUnknownLevel(t *testing.T) {
	if _, err := Logger(&bytes.Buffer{}, "loud"); err == nil || !strings.Contains(err.Error(), "use debug") {
		t.Fatalf("got %v", err)
	}
}
