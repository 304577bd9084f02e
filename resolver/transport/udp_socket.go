package transport

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSendStall is how long replies wait for room in a full send buffer before
// the rest of their batch is given up, in milliseconds.
const maxSendStall = 10

// timerSlack is what the kernel adds to a short sleep, so that timers fire
// together (PR_SET_TIMERSLACK(2const)).
const timerSlack = 50 * time.Microsecond

// kernelSocket calls the kernel for one reading goroutine.
//
// Calls that cannot wait (MSG_DONTWAIT) are made without telling the scheduler,
// which saves what it costs to give up the processor and take it back: a few
// percent of all that an answer takes. A call that waits for others is always
// told: one that is not would hold the processor, and the collector, for as long
// as it waits.
type kernelSocket struct {
	fd  int // of the connection, which is open for as long as it is read
	raw syscall.RawConn

	// The call of await that is under way.
	into     []message
	received int
	failed   error
	attempt  func(uintptr) bool
}

func newKernelSocket(conn *net.UDPConn) (*kernelSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &kernelSocket{raw: raw}
	s.attempt = func(uintptr) bool {
		s.received, s.failed = s.receive(s.into)
		return s.failed != unix.EAGAIN
	}
	return s, raw.Control(func(fd uintptr) { s.fd = int(fd) })
}

func (s *kernelSocket) receive(ms []message) (int, error) {
	return transfer(unix.SYS_RECVMMSG, s.fd, ms)
}

func (s *kernelSocket) send(ms []message) (int, error) {
	n, err := transfer(unix.SYS_SENDMMSG, s.fd, ms)
	if err == unix.EAGAIN && s.room() {
		n, err = transfer(unix.SYS_SENDMMSG, s.fd, ms)
	}
	return n, err
}

// await waits in the runtime's poller, so that others run meanwhile.
func (s *kernelSocket) await(ms []message) (int, error) {
	s.into = ms
	if err := s.raw.Read(s.attempt); err != nil {
		return 0, err
	}
	return s.received, s.failed
}

// nap does not tell the scheduler either: it ends within the ceiling of the
// pace, and the scheduler's watchman, which looks every 20 µs for goroutines
// that stay in the kernel, would cost more than the nap saves. While a nap
// lasts the collector waits, as it does for any code that calls nobody.
func (s *kernelSocket) nap(d time.Duration) {
	t := unix.NsecToTimespec(int64(max(d-timerSlack, time.Microsecond)))
	// A signal ends it early, which is as well.
	_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// room waits until the send buffer has room, for a while.
func (s *kernelSocket) room() bool {
	fds := [1]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	n, _ := unix.Poll(fds[:], maxSendStall) // an error counts as none
	return n == 1
}

// transfer is recvmmsg(2) or sendmmsg(2) without waiting.
func transfer(call uintptr, fd int, ms []message) (int, error) {
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(ms))), uintptr(len(ms)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sendmsg sends one datagram without waiting.
func sendmsg(fd int, packet, address, control []byte) error {
	v := unix.Iovec{Base: unsafe.SliceData(packet)}
	v.SetLen(len(packet))
	h := unix.Msghdr{Iov: &v, Name: unsafe.SliceData(address), Namelen: uint32(len(address))}
	h.SetIovlen(1)
	if len(control) > 0 {
		h.Control = unsafe.SliceData(control)
		h.SetControllen(len(control))
	}
	_, _, errno := syscall.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return errno
	}
	return nil
}
