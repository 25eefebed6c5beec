package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// vmMoreCommands are what is done to one machine beside its power.
func vmMoreCommands() []*cobra.Command {
	return []*cobra.Command{vmResizeCommand(), vmReinstallCommand(), vmPasswordCommand(), vmVNCCommand(), vmSpiceCommand(), vmMACCommand(), vmSerialCommand(), vmLogCommand(), vmRescueCommand(), keyPairCommand(),
		vmSetCommand(), vms.renameCommand(), vmDiscCommand(), vmScreenshotCommand(), vmAddressCommand()}
}

func vmResizeCommand() *cobra.Command {
	var cpu, memory int
	cmd := vms.on(command("resize VM", "Give other CPUs and memory; a running one only more, when its image can", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			id := vm.text("VMID")
			p := Params{"VMID": id, "CPU": vm.text("CPU"), "Memory": vm.text("Memory")}
			if cpu > 0 {
				p["CPU"] = cpu
			}
			if memory > 0 {
				p["Memory"] = memory
			}
			if _, err := s.Call(ctx, "ResizeVMConfig", p, nil); err != nil {
				return err
			}
			if vm, err = vms.settle(ctx, s, id, vmTransient, "Running", "Stopped"); err != nil {
				return err
			}
			return s.detail(vm, vms.columns[:5])
		}))
	cmd.Flags().IntVar(&cpu, "cpu", 0, "virtual CPUs; as before when left out")
	cmd.Flags().IntVar(&memory, "memory", 0, "memory in MiB; as before when left out")
	return cmd
}

func vmReinstallCommand() *cobra.Command {
	var image, password string
	cmd := vms.on(command("reinstall VM", "Make the system disk of a stopped one anew; what is on it is lost", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			p := Params{"VMID": vm.text("VMID"), "ImageID": vm.text("ImageID")}
			if image != "" {
				o, err := images.find(ctx, s, image)
				if err != nil {
					return err
				}
				p["ImageID"] = o.text("ImageID")
			}
			if password != "" {
				p["Password"] = password
			}
			if _, err := s.Call(ctx, "ReinstallVMInstance", p, nil); err != nil {
				return err
			}
			if vm, err = vms.settle(ctx, s, vm.text("VMID"), vmTransient, "Stopped"); err != nil {
				return err
			}
			return s.detail(vm, vms.columns)
		}))
	cmd.Flags().StringVar(&image, "image", "", "image id or name; the same as before when left out")
	cmd.Flags().StringVar(&password, "password", "", "a new password; the same as before when left out")
	images.flag(cmd, "image")
	return cmd
}

func vmPasswordCommand() *cobra.Command {
	var password, user string
	cmd := vms.on(command("reset-password VM", "Change the password inside a running one; made up and shown when left out", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			if password == "" {
				password = newPassword()
				fmt.Fprintln(s.err, "password:", password)
			}
			p := Params{"VMID": vm.text("VMID"), "Password": password}
			if user != "" {
				p["LoginUser"] = user
			}
			_, err = s.Call(ctx, "ResetVMInstancePassword", p, nil)
			return err
		}))
	cmd.Flags().StringVar(&password, "password", "", "the new password")
	cmd.Flags().StringVar(&user, "user", "", "account; the image's when left out")
	return cmd
}

func vmLogCommand() *cobra.Command {
	var lines int
	cmd := vms.on(command("log VM", "Show what it said on its serial port", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var log struct{ Output string }
		if _, err := s.Call(ctx, "GetVMConsoleLog", Params{"VMID": vm.text("VMID"), "Lines": lines}, &log); err != nil {
			return err
		}
		text, err := base64.StdEncoding.DecodeString(log.Output)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			fmt.Fprintln(s.out, printable(strings.TrimRight(line, "\r\n"))) // a guest must not steer the terminal
		}
		return nil
	}))
	cmd.Flags().IntVar(&lines, "lines", 100, "last lines, at most 5000")
	return cmd
}

func vmRescueCommand() *cobra.Command {
	var image string
	var leave bool
	cmd := vms.on(command("rescue VM", "Start a stopped one from a rescue disc, or leave rescue mode", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			name, state, p := "EnterVMRescue", "Running", Params{"VMID": vm.text("VMID")}
			if leave {
				name, state = "ExitVMRescue", "Stopped"
			} else if image != "" {
				o, err := images.find(ctx, s, image)
				if err != nil {
					return err
				}
				p["ImageID"] = o.text("ImageID")
			}
			if _, err := s.Call(ctx, name, p, nil); err != nil {
				return err
			}
			if vm, err = vms.settle(ctx, s, vm.text("VMID"), vmTransient, state); err != nil {
				return err
			}
			return s.detail(vm, vms.columns[:3])
		}))
	cmd.Flags().StringVar(&image, "image", "", "rescue disc, id or name; the platform's when left out")
	cmd.Flags().BoolVar(&leave, "leave", false, "end rescue mode: the machine is off")
	images.flag(cmd, "image")
	return cmd
}

// dial opens the WebSocket of a console session.
func (s *session) dial(ctx context.Context, path string) (*websocket.Conn, error) {
	// No HTTP/2 and no limit of time: a console stays open.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if t, ok := s.HTTP.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
		transport.TLSClientConfig = t.TLSClientConfig.Clone()
	}
	c, _, err := websocket.Dial(ctx, strings.TrimSuffix(strings.TrimRight(s.Endpoint, "/"), "/api")+path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, fmt.Errorf("the console: %w", err)
	}
	c.SetReadLimit(1 << 20)
	return c, nil
}

func vmSpiceCommand() *cobra.Command {
	return vms.on(command("spice VM", "Open its screen to one SPICE program; the controller's machine must be reachable", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var at struct {
			Info struct {
				SpiceIP, SpicePassword string
				SpicePort              int
			}
		}
		if _, err := s.Call(ctx, "GetVMSpiceInfo", Params{"VMID": vm.text("VMID")}, &at); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "connect a SPICE program to spice://%s:%d, password %s, within 300 s\n", at.Info.SpiceIP, at.Info.SpicePort, at.Info.SpicePassword)
		return err
	}))
}

func vmMACCommand() *cobra.Command {
	return vms.on(command("mac VM MAC", "Give a stopped one another hardware address", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateVMMAC", Params{"VMID": vm.text("VMID"), "MAC": args[1]}, nil)
		return err
	}))
}

func vmVNCCommand() *cobra.Command {
	var listen string
	cmd := vms.on(command("vnc VM", "Open its screen to a VNC program on this machine", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := vm.text("VMID")
		var session struct{ SessionID, URL string }
		if _, err := s.Call(ctx, "AllocateVMVNCSession", Params{"VMID": id}, &session); err != nil {
			return err
		}
		var at struct{ Info struct{ VNCPassword string } }
		if _, err := s.Call(ctx, "GetVMVNCInfo", Params{"VMID": id, "SessionID": session.SessionID}, &at); err != nil {
			return err
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		defer l.Close()
		defer context.AfterFunc(ctx, func() { l.Close() })()
		fmt.Fprintf(s.out, "connect a VNC program to %s, password %s\n", l.Addr(), at.Info.VNCPassword)
		fmt.Fprintln(s.err, "waiting for it, at most 300 s")
		local, err := l.Accept()
		if err != nil {
			return err
		}
		defer local.Close()
		c, err := s.dial(ctx, session.URL)
		if err != nil {
			return err
		}
		defer c.CloseNow()
		return join(websocket.NetConn(ctx, c, websocket.MessageBinary), local)
	}))
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "where the VNC program connects")
	return cmd
}

func vmSerialCommand() *cobra.Command {
	return vms.on(command("serial VM", "Connect to its serial console; Ctrl-] ends it", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var session struct{ URL string }
		if _, err := s.Call(ctx, "AllocateVMSerialSession", Params{"VMID": vm.text("VMID")}, &session); err != nil {
			return err
		}
		restore, err := rawTerminal(os.Stdin)
		if err != nil {
			return err
		}
		defer restore()
		c, err := s.dial(ctx, session.URL)
		if err != nil {
			return err
		}
		defer c.CloseNow()
		return join(websocket.NetConn(ctx, c, websocket.MessageBinary), struct {
			io.Reader
			io.Writer
		}{&untilEscape{os.Stdin}, s.out})
	}))
}

// rawTerminal lets every key through; restore gives the terminal back. What is no terminal is left alone.
func rawTerminal(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}, nil // a pipe
	}
	raw := *before
	raw.Iflag &^= unix.BRKINT | unix.ICRNL | unix.INPCK | unix.ISTRIP | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Cflag |= unix.CS8
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.IEXTEN | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // the process ends all the same
}

// untilEscape ends at Ctrl-].
type untilEscape struct{ r io.Reader }

func (u *untilEscape) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	for i, b := range p[:n] {
		if b == 0x1d {
			return i, io.EOF
		}
	}
	return n, err
}

// join copies both ways until one side ends.
func join(remote net.Conn, local io.ReadWriter) error {
	done := make(chan error, 2)
	go func() { _, err := io.Copy(remote, local); done <- err }()
	go func() { _, err := io.Copy(local, remote); done <- err }()
	err := <-done
	remote.Close()
	var closed websocket.CloseError
	if errors.As(err, &closed) && closed.Code == websocket.StatusPolicyViolation {
		return errors.New(closed.Reason)
	}
	return nil
}

var keyPairs = kind{
	name: "key pair", describe: "DescribeKeyPair", ids: "KeyPairIDs", id: "KeyPairID", prefix: "keypair-",
	columns: []column{plain("ID", "KeyPairID"), plain("Name", "Name"), plain("Kind", "KeyType"), plain("Fingerprint", "Fingerprint"), plain("VMs", "VMCount"),
		when("Created", "CreateTime")},
}

func keyPairCommand() *cobra.Command {
	var file string
	create := command("create NAME", "Store a public key, or make a pair and show the private key once", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			p := Params{"Name": args[0]}
			if file != "" {
				raw, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				p["KeyPairPublicKey"] = strings.TrimSpace(string(raw))
			}
			var made struct{ KeyPairID, KeyPairPrivateKey string }
			if _, err := s.Call(ctx, "CreateKeyPair", p, &made); err != nil {
				return err
			}
			fmt.Fprintln(s.err, "id:", made.KeyPairID)
			fmt.Fprint(s.out, made.KeyPairPrivateKey)
			return nil
		})
	create.Flags().StringVar(&file, "public-key", "", "file with the public key")
	change := func(use, short, name string) *cobra.Command {
		return vms.on(command(use+" VM KEYPAIR...", short, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			var ids []string
			for _, ref := range args[1:] {
				k, err := keyPairs.find(ctx, s, ref)
				if err != nil {
					return err
				}
				ids = append(ids, k.text("KeyPairID"))
			}
			_, err = s.Call(ctx, name, Params{"VMID": vm.text("VMID"), "KeyPairIDs": ids}, nil)
			return err
		}))
	}
	return group("keypair", "SSH key pairs", keyPairs.listCommand(), keyPairs.showCommand(), keyPairs.renameCommand(), create,
		keyPairs.on(command("delete KEYPAIR...", "Delete; keys already in guests stay", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
			return each(args, func(ref string) error {
				k, err := keyPairs.find(ctx, s, ref)
				if err == nil {
					_, err = s.Call(ctx, "DeleteKeyPair", Params{"KeyPairID": k.text("KeyPairID")}, nil)
				}
				return err
			})
		})),
		change("bind", "Put keys into a running machine", "BindKeyPair"), change("unbind", "Take keys out of a running machine", "UnBindKeyPair"))
}
