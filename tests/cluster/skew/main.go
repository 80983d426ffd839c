// Runs /usr/bin/unskewed, which may be static, with a clock that is $SKEW seconds off. Of what a process sees, the time of
// day alone comes from the page of code that the kernel maps into it (the vDSO): the child is stopped before its
// first instruction, and the function there is replaced by the system call and an addition. What counts time from elsewhere
// (CLOCK_MONOTONIC) stays as it is. amd64 only.
package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const program = "/usr/bin/unskewed"

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skew:", err)
	}
	os.Exit(code)
}

func run() (int, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SKEW"), 10, 32)
	if err != nil {
		return 1, fmt.Errorf("SKEW: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	runtime.LockOSThread() // who traces is a thread
	child, err := os.StartProcess(program, os.Args, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return 1, err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(child.Pid, &status, 0, nil); err != nil || !status.Stopped() {
		return 1, fmt.Errorf("%s did not stop at its start: %v", program, err)
	}
	if err := skew(child.Pid, int32(seconds)); err != nil {
		_ = child.Kill()
		return 1, err
	}
	if err := syscall.PtraceDetach(child.Pid); err != nil {
		return 1, err
	}
	go func() {
		for received := range signals {
			_ = child.Signal(received)
		}
	}()
	ended, err := child.Wait()
	if err != nil {
		return 1, err
	}
	return ended.ExitCode(), nil
}

// skew replaces a stopped process's clock_gettime.
func skew(pid int, seconds int32) error {
	from, to, err := vdso(pid)
	if err != nil {
		return err
	}
	image := make([]byte, to-from)
	if _, err := syscall.PtracePeekData(pid, from, image); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi (CLOCK_REALTIME)
		0x74, 0x05, // je add
		0x83, 0xff, 5, // cmp edi, CLOCK_REALTIME_COARSE
		0x75, 0x07, // jne out
		0x48, 0x81, 0x06, 0, 0, 0, 0, // add: add qword [rsi], seconds
		0xc3, // out: ret
	}
	binary.LittleEndian.PutUint32(code[19:], uint32(seconds))
	for _, symbol := range symbols {
		if symbol.Name == "__vdso_clock_gettime" && symbol.Size >= uint64(len(code)) {
			_, err := syscall.PtracePokeData(pid, from+uintptr(symbol.Value), code)
			return err
		}
	}
	return fmt.Errorf("no clock_gettime in the vDSO")
}

// vdso says where it is mapped.
func vdso(pid int) (from, to uintptr, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(maps), "\n") {
		if strings.HasSuffix(line, "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, fmt.Errorf("no vDSO")
}
