// Stands in for libnvrtc: g++ compiles the kernels' text. What it calls PTX is
// a comment that names the shared library.
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "nvrtc.h"
#include "soft.h"

namespace {

struct Program {
  std::string source, log, code;
  bool machine = false;  // code for one architecture
};
std::set<Program*> alive;

// The folder of kernel.h.
const char* kHome = SOFTCUDA_HOME;

std::string folder() {
  std::string d = soft::setting("SOFTCUDA_CACHE", "");
  if (d.empty()) d = std::string(kHome) + "/kernels";
  mkdir(d.c_str(), 0700);
  return d;
}

std::string read(const std::string& path) {
  std::ifstream f(path);
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

// quote makes s one word of a shell's command.
std::string quote(const std::string& s) {
  std::string q = "'";
  for (char c : s) q += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return q + "'";
}

nvrtcResult compile(Program* p, int count, const char* const* options) {
  std::string flags = "-std=c++17 -O2 -w -fPIC -shared -mtls-dialect=gnu2 -D__restrict__=__restrict";
  for (int i = 0; i < count; i++) {
    std::string o = options[i];
    if (o.rfind("-D", 0) == 0) flags += " " + quote(o);
    else if (o.rfind("--define-macro=", 0) == 0) flags += " " + quote("-D" + o.substr(15));
    else if (o.rfind("--gpu-architecture=", 0) == 0) {
      std::string target = o.substr(19);
      p->machine = target.rfind("sm_", 0) == 0;
      int capability = atoi(target.c_str() + target.find('_') + 1);
      // Architectures that the release of NVRTC does not know.
      int most = soft::version() < 12000 ? 90 : 120, least = soft::version() < 13000 ? 50 : 75;
      if (capability > most || capability < least) return NVRTC_ERROR_INVALID_OPTION;
    } else if (o.rfind("-", 0) != 0) return NVRTC_ERROR_INVALID_OPTION;
  }
  flags += " " + soft::setting("SOFTCUDA_CXXFLAGS", "");

  std::ostringstream text;
  text << "#include \"kernel.h\"\n#line 1 \"kernels.cu\"\n" << p->source << "\n";
  std::regex kernel(R"(__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\()");
  std::ostringstream table;
  for (std::sregex_iterator it(p->source.begin(), p->source.end(), kernel), end; it != end; ++it) {
    std::string k = (*it)[1];
    table << "  {\"" << k << "\", [](void** a) { soft::call(" << k << ", a); }, soft::count(" << k << "), soft::sizes(" << k << ")},\n";
  }
  text << "extern \"C\" __attribute__((visibility(\"default\"))) soft::Kernel softKernels[] = {\n" << table.str() << "  {nullptr}};\n";

  std::string home = kHome;
  std::string key = text.str() + flags + read(home + "/kernel.h") + read(home + "/launch.h");
  std::string base = folder() + "/" + std::to_string(std::hash<std::string>{}(key));
  if (access((base + ".so").c_str(), R_OK)) {
    std::string own = base + "." + std::to_string(getpid());
    std::ofstream(own + ".cpp") << text.str();
    std::string command = "g++ " + flags + " -I" + quote(home) + " -o " + quote(own + ".so") + " " + quote(own + ".cpp") + " -lpthread >" + quote(own + ".log") + " 2>&1";
    int rc = system(command.c_str());
    p->log = read(own + ".log");
    unlink((own + ".log").c_str());
    unlink((own + ".cpp").c_str());
    if (rc) return NVRTC_ERROR_COMPILATION;
    if (rename((own + ".so").c_str(), (base + ".so").c_str())) return NVRTC_ERROR_INTERNAL_ERROR;
  }
  p->code = "//\n" + std::string(soft::kCode) + base + ".so\n//\n";
  if (p->machine) p->code = soft::kMachine + p->code + std::string(soft::kZeros, '\0') + soft::kEnd;
  return NVRTC_SUCCESS;
}

Program* lookup(nvrtcProgram h) {
  auto p = (Program*)h;
  return alive.count(p) ? p : nullptr;
}

}  // namespace

#define PROGRAM                             \
  ENTER(NVRTC_ERROR_INTERNAL_ERROR);        \
  Program* p = lookup(handle);              \
  if (!p) return NVRTC_ERROR_INVALID_PROGRAM

EXPORT const char* nvrtcGetErrorString(nvrtcResult r) {
  switch (r) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    default: return "NVRTC_ERROR_INTERNAL_ERROR";
  }
}
EXPORT nvrtcResult nvrtcVersion(int* major, int* minor) {
  ENTER(NVRTC_ERROR_INTERNAL_ERROR);
  *major = soft::version() / 1000;
  *minor = soft::version() % 1000 / 10;
  return NVRTC_SUCCESS;
}
EXPORT nvrtcResult nvrtcCreateProgram(nvrtcProgram* out, const char* source, const char*, int, const char* const*, const char* const*) {
  ENTER(NVRTC_ERROR_OUT_OF_MEMORY);
  auto p = new Program;
  p->source = source;
  alive.insert(p);
  soft::programs++;
  *out = (nvrtcProgram)p;
  return NVRTC_SUCCESS;
}
EXPORT nvrtcResult nvrtcDestroyProgram(nvrtcProgram* handle) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  Program* p = lookup(*handle);
  if (!p) return NVRTC_ERROR_INVALID_PROGRAM;
  alive.erase(p);
  soft::programs--;
  delete p;
  *handle = nullptr;
  return fails ? NVRTC_ERROR_INTERNAL_ERROR : NVRTC_SUCCESS;
}
EXPORT nvrtcResult nvrtcCompileProgram(nvrtcProgram handle, int count, const char* const* options) {
  PROGRAM;
  return compile(p, count, options);
}
EXPORT nvrtcResult nvrtcGetPTXSize(nvrtcProgram handle, size_t* n) { PROGRAM; *n = p->code.size() + 1; return NVRTC_SUCCESS; }
EXPORT nvrtcResult nvrtcGetPTX(nvrtcProgram handle, char* s) { PROGRAM; memcpy(s, p->code.c_str(), p->code.size() + 1); return NVRTC_SUCCESS; }
EXPORT nvrtcResult nvrtcGetCUBINSize(nvrtcProgram handle, size_t* n) { PROGRAM; *n = p->machine ? p->code.size() : 0; return NVRTC_SUCCESS; }
EXPORT nvrtcResult nvrtcGetCUBIN(nvrtcProgram handle, char* s) { PROGRAM; memcpy(s, p->code.data(), p->code.size()); return NVRTC_SUCCESS; }
EXPORT nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram handle, size_t* n) { PROGRAM; *n = p->log.size() + 1; return NVRTC_SUCCESS; }
EXPORT nvrtcResult nvrtcGetProgramLog(nvrtcProgram handle, char* s) { PROGRAM; memcpy(s, p->log.c_str(), p->log.size() + 1); return NVRTC_SUCCESS; }
