package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cordon/test/stage"
)

// enforcement measures from the publication of an edition to its first blocked
// answer, on an idle server: cordon from a watched folder and over HTTPS, the others
// from the command that has them read the policy zone.
func enforcement(ctx context.Context, b *bench) error {
	out := &table{Title: "From publication to enforcement",
		Head: []string{"server", "way", "names:", "to the first blocked answer s:", "longest s:", "of it until the publication was fetched s:", "CPU s till then:", "CPU s in all:", "start s:", "start CPU s:"},
		Notes: []string{"medians; one name in a hundred is new; from the rename of timestamp.json (cordon) or from the command to read the zone (the others)",
			"over HTTPS cordon polls once a second here, its shortest setting: the wait for the poll is between none and a second, and its part is the column 'until the publication was fetched'",
			"start: from the start of the program to its first blocked answer, the list on disk for the others and fetched for cordon, whose store is empty",
			"load average before " + stage.Load()}}
	for _, entries := range []int{min(10_000, b.long), b.long} {
		for _, k := range b.kinds {
			if !k.TakesEditions() {
				continue
			}
			ways := []string{"policy zone, reload"}
			if k.Form() == stage.Signed {
				ways = []string{"folder", "HTTPS"}
			}
			for _, way := range ways {
				row, err := b.enforceRow(ctx, k, way, entries)
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case err != nil:
					b.report.fail("enforcement", fmt.Sprintf("%s, %s, %d names", k.Name, way, entries), err)
					continue
				}
				out.Rows = append(out.Rows, row)
				b.report.progress("enforcement: %s, %s, %d names: %s s", k.Name, way, entries, row[3])
			}
		}
	}
	b.report.add(out)
	return nil
}

func (b *bench) enforceRow(ctx context.Context, k *stage.Kind, way string, entries int) (_ []string, err error) {
	dir := filepath.Join(b.stage.Dir, "enforce")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := stage.NewList(dir, entries)
	if err != nil {
		return nil, err
	}
	if err := l.Prepare(ctx, b.rounds+1, k.Form()); err != nil {
		return nil, err
	}
	setup := stage.Setup{List: l}
	var web *webServer
	if way == "HTTPS" {
		if web, err = b.serve(l.Folder); err != nil {
			return nil, err
		}
		defer web.close()
		setup.Source = web.address
	}
	started := time.Now()
	s, err := b.stage.Start(ctx, k, setup)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	start := time.Since(started)
	first, err := s.Usage()
	if err != nil {
		return nil, err
	}
	var took, fetched, cpu, all []float64
	for range b.rounds {
		if err := s.Idle(ctx); err != nil {
			return nil, err
		}
		before, err := s.Usage()
		if err != nil {
			return nil, err
		}
		e, err := s.Enforce(ctx, b.stage, l, 2*time.Millisecond)
		if err != nil {
			return nil, err
		}
		if err := s.Idle(ctx); err != nil {
			return nil, err
		}
		after, err := s.Usage()
		if err != nil {
			return nil, err
		}
		took, cpu, all = append(took, e.Took.Seconds()), append(cpu, e.CPU.Seconds()), append(all, (after.CPU-before.CPU).Seconds())
		if web != nil {
			fetched = append(fetched, web.asked().Sub(e.At).Seconds())
		}
	}
	same := func(x float64) float64 { return x }
	wait := ""
	if web != nil {
		wait = seconds(median(fetched, same))
	}
	return []string{k.Name, way, fmt.Sprint(entries), seconds(median(took, same)), seconds(slices.Max(took)), wait,
		seconds(median(cpu, same)), seconds(median(all, same)), seconds(start.Seconds()), seconds(first.CPU.Seconds())}, nil
}

// webServer serves a publication.
type webServer struct {
	address string
	server  *http.Server
	done    chan struct{}

	mu   sync.Mutex
	last time.Time // a target was asked for: the client has seen a new publication
}

func (b *bench) serve(dir string) (*webServer, error) {
	chain, key := b.stage.Certificate()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &webServer{address: "https://" + listener.Addr().String(), done: make(chan struct{})}
	files := http.FileServer(http.Dir(dir))
	w.server = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if filepath.Dir(r.URL.Path) == "/targets" {
			w.mu.Lock()
			w.last = time.Now()
			w.mu.Unlock()
		}
		files.ServeHTTP(rw, r)
	})}
	go func() {
		defer close(w.done)
		_ = w.server.ServeTLS(listener, chain, key) // ends with Close
	}()
	return w, nil
}

// asked is when a target was last asked for.
func (w *webServer) asked() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *webServer) close() {
	_ = w.server.Close() // a publication that was read leaves nothing to lose
	<-w.done
}
