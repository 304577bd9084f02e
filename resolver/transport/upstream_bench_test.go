package transport

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkUpstreamUDP asks a server on this machine, which sends the same reply
// each time. cpu-ns is the time of the whole process, the server's part included,
// which does not change.
func BenchmarkUpstreamUDP(b *testing.B) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			_, _ = conn.WriteToUDPAddrPort(buf[:n], peer)
		}
	}()
	defer func() { _ = conn.Close(); <-served }()
	u := newUpstream(b, UpstreamConfig{MixCase: true, UDPTimeout: time.Minute})
	server := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	query := exampleQuery()
	b.ReportAllocs()
	before := processTime(b)
	for b.Loop() {
		if _, err := u.Exchange(b.Context(), server, query, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processTime(b *testing.B) int64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}
