package transport

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

// cutter is a kernel that refuses to cut, for as long as refuse gives an error.
type cutter struct {
	t      *testing.T
	refuse func(m *message) error
	asked  int // to cut a message
	sent   []string
}

func (c *cutter) send(ms []message) (int, error) {
	if ms[0].segments() > 1 {
		c.asked++
		if err := c.refuse(&ms[0]); err != nil {
			return 0, err
		}
	}
	c.sent = append(c.sent, datagrams(c.t, &ms[0])...)
	return 1, nil
}

// batches answers n batches of five queries from two sockets and holds that each
// reply is sent.
func (c *cutter) batches(l *udpLoop, n int) {
	c.t.Helper()
	for range n {
		c.sent = nil
		fillBatch(l, 5, 2)
		l.answer()
		slices.Sort(c.sent)
		if want := []string{"0a", "0c", "0e", "1b", "1d"}; !slices.Equal(c.sent, want) {
			c.t.Fatalf("sent %q, want %q", c.sent, want)
		}
	}
	if got := testutil.ToFloat64(l.metrics.udp.sendErrors); got != 0 {
		c.t.Errorf("%v replies counted as not sent", got)
	}
}

func TestUDPWhatTheKernelCannotCutGoesOutReplyByReply(t *testing.T) {
	const batches = 3 * cutRest
	for _, tt := range []struct {
		name  string
		err   error
		asked func(n int) bool // how often the kernel is asked to cut
	}{
		{"never again where the device has no checksums", unix.EIO, func(n int) bool { return n == 2 }},
		{"now and then where each message is refused", unix.EINVAL, func(n int) bool { return n > cutFailures && n < 6*cutFailures }},
		{"the same for a path that is narrow", unix.EMSGSIZE, func(n int) bool { return n > cutFailures && n < 6*cutFailures }},
		{"each time where a filter forbids a client", unix.EPERM, func(n int) bool { return n == 2*batches }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cutter{t: t, refuse: func(*message) error { return tt.err }}
			c.batches(newLoop(t, &fakeSocket{onSend: c.send}, &constantSession{}), batches)
			if !tt.asked(c.asked) {
				t.Errorf("asked to cut %d times in %d batches", c.asked, batches)
			}
		})
	}
}

func TestUDPARefusalOfOneMessageIsNoneOfTheNext(t *testing.T) {
	refusals := 1
	c := &cutter{t: t, refuse: func(*message) error {
		if refusals--; refusals >= 0 {
			return unix.EINVAL
		}
		return nil
	}}
	l := newLoop(t, &fakeSocket{onSend: c.send}, &constantSession{})
	c.batches(l, 10)
	if c.asked != 20 {
		t.Errorf("asked to cut %d times, want it for each of 20 messages", c.asked)
	}
}

// TestUDPOneClientsPathDoesNotEndCuttingForOthers has the messages to one of two
// clients refused always.
func TestUDPOneClientsPathDoesNotEndCuttingForOthers(t *testing.T) {
	c := &cutter{t: t, refuse: func(m *message) error {
		if m.segments() == 2 { // those of the second client
			return unix.EINVAL
		}
		return nil
	}}
	c.batches(newLoop(t, &fakeSocket{onSend: c.send}, &constantSession{}), 100)
	if c.asked != 200 {
		t.Errorf("asked to cut %d times, want 200", c.asked)
	}
}

// TestUDPAFullSendBufferCostsABatchOneWait holds that what finds no room is given up
// in one: the clients of the next batch do not wait for each reply of this one.
func TestUDPAFullSendBufferCostsABatchOneWait(t *testing.T) {
	waits := 0
	l := newLoop(t, &fakeSocket{onSend: func([]message) (int, error) {
		waits++
		return 0, unix.EAGAIN
	}}, &constantSession{})
	fillBatch(l, 20, 4)
	l.answer()
	if waits != 1 {
		t.Errorf("%d waits", waits)
	}
	if got := testutil.ToFloat64(l.metrics.udp.sendErrors); got != 20 {
		t.Errorf("%v replies counted as not sent, want 20", got)
	}
	fillBatch(l, 5, 2)
	l.answer()
	if !l.out.cutting.on() || l.out.cutting.failed != 0 {
		t.Error("a full buffer was taken for a kernel that cannot cut")
	}
}

func TestUDPNothingIsCutWhereTheKernelDoesNotKnowHow(t *testing.T) {
	out := newOutBatch(false)
	for range 5 {
		out.add(append(out.buffer(), 'x'), make([]byte, unix.SizeofSockaddrInet4), nil)
	}
	if got := len(out.messages()); got != 5 {
		t.Errorf("5 replies in %d messages", got)
	}
}
