// Package daemon is what every long-running program of cordon does in the same
// way when it starts and stops: structured logs, signals, and word to the
// service manager (sd_notify(3)).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// Run calls run with a context that ends at SIGINT or SIGTERM. A second signal
// ends the process at once. A run that ends because it was told to is no error.
func Run(parent context.Context, run func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		// The default action is back in force, so that a second signal ends a
		// program that hangs in its shutdown.
		stop()
		// That the service manager cannot be told changes nothing.
		_ = notify("STOPPING=1")
	})
	err := run(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// Logger writes JSON lines to w at the given level ("debug", "info", "warn" or
// "error").
func Logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// Ready tells systemd that the program serves (Type=notify). Without a service
// manager it does nothing.
func Ready() error { return notify("READY=1") }

// notify sends one datagram to the socket that the service manager names in
// NOTIFY_SOCKET; a leading '@' stands for the abstract namespace.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager at NOTIFY_SOCKET=%s: %w", name, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager at NOTIFY_SOCKET=%s: %w", name, err)
	}
	return nil
}

// version is set by the linker (-X) when a release is built.
var version string

// Version is the program's version: the release's, or the revision it was built
// from, or "devel".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "devel-" + s.Value[:12]
			}
		}
	}
	return "devel"
}

// Built is when the revision was made that the program was built from; zero if
// that is not known.
func Built() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					return t
				}
			}
		}
	}
	return time.Time{}
}
