package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"cordon/test/stage"
)

// found is the end of a search: the last run that was good and the first that was
// not; either may be missing.
type found struct{ good, bad *result }

// search finds how many are served: doubling from start until a run is bad, then
// between. A run that the client bounds ends it too, since more tell nothing.
func search(start, most int, precision float64, try func(n int) (*result, bool, error)) (f found, err error) {
	low, high := 0, 0 // known good, known bad; 0: none
	for n := start; ; {
		r, good, err := try(n)
		if err != nil {
			return f, err
		}
		if good {
			low, f.good = n, r
			if r.bounded() && high == 0 {
				return f, nil
			}
		} else {
			high, f.bad = n, r
		}
		switch {
		case high == 0 && low >= most:
			return f, nil
		case high == 0:
			n = min(2*low, most)
		case float64(high-low) <= math.Max(precision*float64(high), 1):
			return f, nil
		default:
			n = low + (high-low)/2
		}
	}
}

// warm asks each question once over UDP, so that all is cached.
func warm(ctx context.Context, v *stage.Server, all [][]byte) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", v.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	asked := map[*byte]bool{}
	buffer := make([]byte, 4096)
	for _, q := range all {
		if asked[&q[0]] {
			continue
		}
		asked[&q[0]] = true
		if err := exchange(conn, q, buffer); err != nil {
			return err
		}
	}
	return nil
}

func exchange(conn net.Conn, q, buffer []byte) (err error) {
	for range 5 {
		if _, err = conn.Write(q); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		var n int
		if n, err = conn.Read(buffer); err == nil && isGood(buffer[:n]) {
			return nil
		}
	}
	if err == nil {
		err = fmt.Errorf("response code %d: %w", buffer[3]&15, io.ErrUnexpectedEOF)
	}
	return err
}
