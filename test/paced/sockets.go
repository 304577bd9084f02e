package paced

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets are connected UDP sockets whose answers bear the kernel's time. Calls
// are raw: they never block, and the runtime need not know of them.
type sockets struct {
	fds    []int
	epoll  int
	events [64]unix.EpollEvent

	headers [batch]message
	vectors [batch]unix.Iovec
	buffers [batch][2048]byte
	control [batch][64]byte
}

const batch = 16

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	n uint32
	_ uint32
}

func openSockets(server netip.AddrPort, n int) (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("socket to %s: %w", server, err)
		}
	}()
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	to := &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}
	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return s, err
		}
		s.fds = append(s.fds, fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return s, err
		}
		if err := unix.Connect(fd, to); err != nil {
			return s, err
		}
		if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return s, err
		}
	}
	for i := range s.headers {
		s.vectors[i] = unix.Iovec{Base: &s.buffers[i][0], Len: uint64(len(s.buffers[i]))}
		s.headers[i].Iov, s.headers[i].Iovlen = &s.vectors[i], 1
	}
	return s, nil
}

func (s *sockets) close() {
	for _, fd := range append(s.fds, s.epoll) {
		_ = unix.Close(fd)
	}
}

// send sends, or loses the packet where the kernel does not take it.
func (s *sockets) send(socket int, packet []byte) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fds[socket]), uintptr(unsafe.Pointer(&packet[0])), uintptr(len(packet)), 0, 0, 0)
}

// receive gives what has come to take, and tells whether something had.
func (s *sockets) receive(take func(socket int, packet []byte, at int64)) bool {
	ready, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&s.events[0])), uintptr(len(s.events)), 0, 0, 0)
	if errno != 0 {
		return false
	}
	for _, e := range s.events[:ready] {
		s.drain(int(e.Fd), take)
	}
	return ready > 0
}

func (s *sockets) drain(socket int, take func(socket int, packet []byte, at int64)) {
	for i := range s.headers {
		s.headers[i].Control, s.headers[i].Controllen = &s.control[i][0], uint64(len(s.control[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fds[socket]), uintptr(unsafe.Pointer(&s.headers[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return // nothing there, or what the server's host says of an earlier packet
	}
	for i := range int(n) {
		h := &s.headers[i]
		take(socket, s.buffers[i][:h.n], stamp(s.control[i][:h.Controllen]))
	}
}

// stamp is the time at which the kernel had the packet (SCM_TIMESTAMPNS).
func stamp(control []byte) int64 {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if len(control) < unix.CmsgLen(16) || h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS {
		return time.Now().UnixNano()
	}
	return (*unix.Timespec)(unsafe.Pointer(&control[unix.CmsgLen(0)])).Nano()
}
