package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is a program that runs until it is stopped, in a folder in which it says
// what it has to say into the file log. It does not outlive this process.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan error // gets what Wait gave
}

// Run starts a program and waits until ready gives nil, at most for within. Where
// that fails the program has ended, and the error says what it said last.
func Run(ctx context.Context, name, dir string, args []string, within time.Duration, ready func(context.Context) error) (*Process, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, cmd: exec.Command(args[0], args[1:]...), log: log, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	go func() { p.done <- p.cmd.Wait() }()
	if err := p.await(ctx, within, ready); err != nil {
		said := p.said()
		p.Stop()
		return nil, fmt.Errorf("start %s: %w; it said:\n%s", name, err, said)
	}
	return p, nil
}

func (p *Process) await(ctx context.Context, within time.Duration, ready func(context.Context) error) error {
	for deadline := time.Now().Add(within); ; {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case ended := <-p.done:
			p.done <- ended
			return fmt.Errorf("it ended: %v", ended)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// said is the end of what the program said.
func (p *Process) said() []byte {
	said, _ := os.ReadFile(p.log.Name())
	return said[max(0, len(said)-2000):]
}

// PID is the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Alive is nil while the process runs.
func (p *Process) Alive() error {
	select {
	case ended := <-p.done:
		p.done <- ended
		return fmt.Errorf("%s ended: %v; it said:\n%s", p.name, ended, p.said())
	default:
		return nil
	}
}

// Stop ends the process and waits for it.
func (p *Process) Stop() {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	p.log.Close()
}

// FreePort is one that neither TCP nor UDP uses on 127.0.0.1.
func FreePort() (uint16, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			u.Close()
		}
		l.Close()
		if err == nil {
			return uint16(l.Addr().(*net.TCPAddr).Port), nil
		}
	}
	return 0, errors.New("no port is free")
}
