package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// children are the programs that run. All of it belongs to the goroutine of
// demo, but for what a child's own goroutine sends when the child ends.
type children struct {
	*stage
	running []*child
	ended   chan *child // each child once
}

type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // set before done is closed
}

// start starts the programs one after the other, each when the one that it
// stands on answers.
func (c *children) start(ctx context.Context) error {
	c.ended = make(chan *child, 8)
	// A demo that was killed leaves its files; they name nobody any more.
	stale, err := filepath.Glob(c.path("run", "*.pid"))
	if err != nil {
		return err
	}
	for _, pid := range stale {
		if err := os.Remove(pid); err != nil {
			return err
		}
	}
	type program struct {
		name   string
		args   []string
		serves func() error // nil: nothing waits for it
	}
	programs := []program{
		{"stoppage", []string{"cordon-stoppage", "run", "--config", c.path("stoppage", "stoppage.yaml")}, connects(stopPageAddress)},
		{"resolver", []string{"cordon-resolver", "run", "--config", c.path("resolver", "resolver.yaml")}, connects(resolverAddress)},
		{"auditor", []string{"cordon-auditor", "run", "--config", c.path("auditor", "auditor.yaml")}, connects(auditorAddress)},
		{"oversight", []string{"cordon-oversight", "watch", "--config", c.path("oversight", "oversight.yaml")}, nil},
	}
	if c.offline {
		internet := program{"internet", []string{"cordon-demo", "internet", c.path("internet")}, connects(net.JoinHostPort("127.0.53.1", strconv.Itoa(internetPort)))}
		programs = append([]program{internet}, programs...)
	}
	for _, p := range programs {
		child, err := c.spawn(p.name, p.args)
		if err != nil {
			return err
		}
		if p.serves == nil {
			continue
		}
		if err := child.await(ctx, p.serves); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts a program in a process group of its own, so that Ctrl-C reaches
// the demo alone, which then stops the others in order. Should the demo be
// killed, the kernel ends them.
func (c *children) spawn(name string, args []string) (*child, error) {
	log, err := os.OpenFile(c.path("log", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(filepath.Join(c.programs, args[0]), args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	child := &child{name: name, log: log.Name(), cmd: cmd, done: make(chan struct{})}
	c.running = append(c.running, child)
	go func() {
		child.err = cmd.Wait()
		close(child.done)
		c.ended <- child
	}()
	pid := strconv.Itoa(cmd.Process.Pid) + "\n"
	return child, os.WriteFile(c.path("run", name+".pid"), []byte(pid), 0o644)
}

// await waits until the child serves.
func (c *child) await(ctx context.Context, serves func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := serves()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return fmt.Errorf("%s ended at its start (%v):\n%s", c.name, c.err, lastLines(c.log, 5))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer after 20 s: %w\n%s", c.name, err, lastLines(c.log, 5))
		}
	}
}

// connects tells whether somebody answers at a TCP address.
func connects(address string) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// stop ends the programs in the reverse order, so that the auditor seals what
// the resolver wrote last, and waits for each. It is asked politely, then killed.
func (c *children) stop() error {
	var errs []error
	// What writes ends before what seals, and that before what watches.
	for _, name := range []string{"resolver", "auditor", "oversight", "stoppage", "internet"} {
		for _, child := range c.running {
			if child.name != name {
				continue
			}
			if err := child.stop(); err != nil {
				errs = append(errs, err)
			}
			os.Remove(c.path("run", name+".pid"))
		}
	}
	return errors.Join(errs...)
}

func (c *child) stop() error {
	select {
	case <-c.done: // ended before, which was reported
		return nil
	default:
	}
	// The child may end by itself meanwhile; done tells.
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-time.After(15 * time.Second):
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s did not stop within 15 s and was killed; see %s", c.name, c.log)
}
