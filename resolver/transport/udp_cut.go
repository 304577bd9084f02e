package transport

import "golang.org/x/sys/unix"

const (
	// cutFailures in a row, without a message that was cut in between, make
	// cutting rest.
	cutFailures = 8
	// cutRest is for how many batches. A failure costs a system call, so to try
	// so rarely costs nothing.
	cutRest = 4096
)

// cutting says whether the kernel is asked to cut messages (UDP_SEGMENT, udp(7)).
// One that it refuses goes out reply by reply, and the next one is tried again:
// what does not fit one path fits another. Where nothing else is heard, it is
// tried only now and then; where it cannot be, never again.
type cutting struct {
	never  bool
	failed int // in a row
	rest   int // batches that are not to be cut
}

func (c *cutting) on() bool { return !c.never && c.rest == 0 }

// next is told of each batch.
func (c *cutting) next() {
	if c.rest > 0 {
		c.rest--
	}
}

// worked is told of messages that were sent.
func (c *cutting) worked(ms []message) {
	if c.failed == 0 {
		return // most often
	}
	for i := range ms {
		if ms[i].segments() > 1 {
			c.failed = 0
		}
	}
}

// refused is told why a message was not cut.
func (c *cutting) refused(err error) {
	switch err {
	case unix.EIO, unix.EOPNOTSUPP, unix.ENOPROTOOPT:
		// The device computes no checksums, or the way leads through IPsec: the
		// kernel does not cut for it.
		c.never = true
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EACCES, unix.ECONNREFUSED,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTDOWN:
		// Of a moment, or a destination: it says nothing about cutting.
	default:
		// EINVAL, EMSGSIZE and their like: replies longer than what the path to
		// this client takes, or more of them than this kernel cuts at once.
		if c.failed++; c.failed == cutFailures {
			c.failed, c.rest = 0, cutRest
		}
	}
}
